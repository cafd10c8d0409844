"""The problem and its pure maths: bases, schedules, hyperparameters, rules, the functional model.

Imports nothing of this package.
"""
