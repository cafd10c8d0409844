"""The version of the library: of the code that runs, whatever is installed beside it."""

__all__ = ["__version__"]

__version__ = "0.1.0"
