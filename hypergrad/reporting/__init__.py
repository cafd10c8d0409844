"""What a person sees of a run: progress, closing tables, an HTML page.

Imports figures, runs, config, core.
"""
