"""The driver of Figures 1, 3 and 4: learn a schedule, retrain it, compare.

Imports what drivers may.
"""
