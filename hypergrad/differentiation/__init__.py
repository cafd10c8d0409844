"""Hypergradients of a training run: forward mode, reverse mode, one step.

Imports core, curvature and parallel.ranks; knows no files, no configuration.
"""
