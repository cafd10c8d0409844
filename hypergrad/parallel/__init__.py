"""Work over processes and machines: a pool of workers, and ranks that share tangents.

Imports core and runs.
"""
