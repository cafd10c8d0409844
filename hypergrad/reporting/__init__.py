"""What a person sees of a run: progress, closing tables.

Imports figures, runs, config, core.
"""
