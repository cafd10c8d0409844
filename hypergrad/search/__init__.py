"""Searches over schedules: grid, random, and hypergradient descent begun anew.

A *candidate* is a setting to try, a *trial* is one training with it from one seed. What is tried is
in `candidates`, one training in `train` (several at once in `ensemble`), what is kept of it in
`records`, what is left in `queue`, how things stand in `ledger`, what is chosen in `selection`, and
the order of things in `driver`.
"""
