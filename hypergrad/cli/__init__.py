"""The command line: arguments, exit codes, one-line errors.

Imports everything; nothing imports it.
"""

from hypergrad.cli.app import main

__all__ = ["main"]
