"""What somebody may have meant who has typed what there is not."""

import re
from collections.abc import Sequence

__all__ = ["hint_of_command", "hint_of_option", "hint_of_usage"]

_FLAG = re.compile(r"--?([A-Za-z][\w.-]*)(?:=(.*))?")


def hint_of_usage(text: str, typed: Sequence[str], commands: Sequence[str]) -> str:
    """Return the end of a sentence on a command or option that is not there; empty for none.

    Args:
        text: What is wrong, as Click says it.
        typed: The command line.
        commands: Those that there are.
    """
    from hypergrad.config.overrides import choices, known_keys

    if "run" in commands and (found := re.match(r"No such command '(.*?)'", text)):
        return hint_of_command(found[1], commands, choices("experiment"))
    if text.startswith("No such option"):
        return hint_of_option(typed, known_keys())
    return ""


def hint_of_command(word: str, commands: Sequence[str], experiments: Sequence[str]) -> str:
    """Return the end of a sentence on a command that is not there; empty for none.

    >>> hint_of_command("fig1", ["run"], ["fig1"])
    ': did you mean `hypergrad run fig1`?'
    """
    import difflib

    from hypergrad.config.wording import DRAWN_BY

    if word in experiments:
        return f": did you mean `hypergrad run {word}`?"
    if word in DRAWN_BY:
        return DRAWN_BY[word]
    close = difflib.get_close_matches(word, [*commands, *experiments], n=1, cutoff=0.6)
    if not close:
        return ""
    meant = close[0] if close[0] in commands else f"run {close[0]}"
    return f": did you mean `hypergrad {meant}`?"


def hint_of_option(typed: Sequence[str], keys: Sequence[str]) -> str:
    """Return the end of a sentence on an option that is none, and may be a setting.

    Args:
        typed: The command line, the option somewhere in it.
        keys: All settings.

    >>> hint_of_option(["run", "quickstart", "--epochs", "3"], ["epochs"])
    ': settings have no dashes: epochs=3'
    >>> hint_of_option(["run", "quickstart", "--batch-size=8"], ["method.batch_size"])
    ': settings have no dashes: method.batch_size=8'
    """
    for place, word in enumerate(typed):
        found = _FLAG.fullmatch(word)
        if not found:
            continue
        name = found[1].replace("-", "_")
        own = [key for key in keys if key == name or key.endswith(f".{name}")]
        if own:
            following = typed[place + 1] if place + 1 < len(typed) else ""
            value = found[2] or (following if following and "=" not in following else "VALUE")
            key = min(own, key=lambda key: (key != name, len(key)))
            return f": settings have no dashes: {key}={value}"
    return ""
