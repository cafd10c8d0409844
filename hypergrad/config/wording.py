"""What the library calls an argument, and the command line a setting."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hypergrad.config.checks import ConfigError

__all__ = ["DRAWN_BY", "in_settings", "naming_settings"]

DRAWN_BY = {  # figures that no experiment is called after
    "fig4": ": `hypergrad run fig1` runs it, and `hypergrad plot fig4` draws it",
    "fig5": ": `hypergrad baselines digits` runs it, and `hypergrad plot fig5` draws it",
}

_ARGUMENT = re.compile(r"(?<![\w.])(\w+)=(?:'([^']*)'|(None\b)?)")
_PHRASES = {
    "use forward mode": "use method=shared",
    "use reverse mode": "use method.mode=reverse method.clip_products=null",
    "(batch_size)": "(method.batch_size)",
    "keep_graphs=False": "keep_graphs=false",
}
_SETTINGS = {
    "strategy": "hvp.strategy",
    "precision": "hvp.precision",
    "memory_gb": "reverse.memory_gb",
    "keep_graphs": "reverse.keep_graphs",
    "validation_chunks": "reverse.validation_chunks",
    "root": "data.root",
    "path": "data.path",
    "train_size": "data.train_size",
    "test_size": "data.test_size",
    "image_size": "data.image_size",
}


def in_settings(text: str) -> str:
    """Return a library's message in the words of the command line.

    >>> in_settings("use forward mode with strategy='loop', or precision=None")
    'use method=shared with hvp.strategy=loop, or hvp.precision=null'
    """

    def renamed(found: re.Match[str]) -> str:
        name, quoted, none = found.groups()
        if name not in _SETTINGS:
            return found[0]
        return f"{_SETTINGS[name]}={'null' if none else quoted or ''}"

    for said, typed in _PHRASES.items():
        text = text.replace(said, typed)
    return _ARGUMENT.sub(renamed, text)


@contextmanager
def naming_settings() -> Iterator[None]:
    """Let errors of the library that leave this block speak of settings."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        if (text := in_settings(str(error))) != str(error):
            error.args = (text,)
        raise
