"""The optimisation problem and its pure maths: schedules, the functional model, SGD, sign descent.

Imports nothing of this package.
"""
