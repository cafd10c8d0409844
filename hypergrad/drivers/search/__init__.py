"""The driver of Figure 5: grids, random schedules, restarts of hypergradient descent.

Imports what drivers may.
"""
