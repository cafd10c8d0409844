"""The configuration of a run: composed with Hydra, checked once, frozen.

Imports core.
"""
