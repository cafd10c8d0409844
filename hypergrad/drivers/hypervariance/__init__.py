"""The driver of Figure 2: hypergradients under perturbation.

Imports what drivers may.
"""
