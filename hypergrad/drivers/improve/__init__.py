"""`hypergrad improve`: a plan of trainings, carried out in a run directory.

Imports what `drivers` may import.
"""
