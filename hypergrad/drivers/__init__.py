"""What `hypergrad` does with a configuration: learn, search, measure, run many.

Imports everything but cli.
"""
