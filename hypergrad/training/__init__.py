"""Inner runs that can stop, be saved and go on; ensembles; CUDA graphs.

Imports differentiation and what lies below it; knows no files, no configuration.
"""
