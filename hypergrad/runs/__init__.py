"""What a run leaves on disk: its directory, metrics files, checkpoints and provenance.

Import from the modules: `checkpoint` needs torch, and nothing else here does.
"""
