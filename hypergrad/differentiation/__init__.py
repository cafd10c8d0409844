"""Hypergradients of a training run: forward mode, reverse mode, one step.

Imports core and curvature; knows no files, no configuration.
"""
