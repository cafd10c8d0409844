"""Work over processes and machines: a pool of workers.

Imports core and runs.
"""
