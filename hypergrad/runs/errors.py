"""That a run failed, after there was a directory for it; and what an error says in one line."""

__all__ = ["RunFailed", "in_one_line"]


class RunFailed(Exception):  # noqa: N818 (that it failed is what it says)
    """A run that broke off after its directory was made; the text is one line for people."""


def in_one_line(error: BaseException) -> str:
    """Return the kind of an error and what it says; where memory ran out, what would fit instead.

    >>> in_one_line(KeyError("three"))
    "KeyError: 'three'"
    """
    for note in getattr(error, "__notes__", ()):
        if note.startswith("out of memory"):  # see training/out_of_memory.py
            return note
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}".removesuffix(": ")
