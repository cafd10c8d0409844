"""The optimisation problem and its pure pieces: schedules, the functional model, SGD, sign descent.

Imports nothing of this package.
"""
