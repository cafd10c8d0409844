"""An error as the command line tells it: one line on stderr, and an exit code."""

import os
import sys

from hypergrad.cli.hints import hint_of_usage

__all__ = ["complain"]

FAILED, USAGE = 1, 2


def complain(error: Exception) -> int:
    """Say what went wrong, in one line on stderr; return the exit code.

    Raises:
        Exception: The error itself where HYDRA_FULL_ERROR=1 asks for all of it.
    """
    from hypergrad.runs.errors import RunFailed
    from hypergrad.runs.shown import LONGEST, short

    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
    code, text = FAILED, str(error)
    if hasattr(error, "format_message"):  # of Typer, which may or may not bring its own click
        return _complain_of_usage(error)
    if isinstance(error, ValueError):
        code = USAGE
    elif "torchvision::nms" in text:
        text = (
            "torch and torchvision do not fit together: install them as a pair, "
            "`pip install --force-reinstall torch torchvision`"
        )
    elif not isinstance(error, RunFailed):
        text = f"{_explained(error)} (HYDRA_FULL_ERROR=1 shows where)"
    # What has changed since a run began, each in a line.
    head, *rest = [getattr(error, "text", text), *getattr(error, "lines", [])]
    # What would fit in memory is a list of remedies: the middle is what helps.
    longest = 3 * LONGEST if "out of memory on " in head else LONGEST
    lines = [short(f"hypergrad: {head}", longest), *map(short, rest)]
    print("\n  ".join(lines), file=sys.stderr)
    return code


def _explained(error: Exception) -> str:
    """What an error says; where memory ran out before there was a run, what would need less."""
    from hypergrad.runs.errors import in_one_line

    if "torch" not in sys.modules:  # nothing has been computed
        return in_one_line(error)
    from hypergrad.config.wording import in_settings
    from hypergrad.training.out_of_memory import explain

    explain(error)
    return in_settings(in_one_line(error))


def _complain_of_usage(error: Exception) -> int:
    from hypergrad.runs.shown import printable, short

    text = getattr(error, "format_message", str)()
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        if text:
            print(text, file=sys.stderr)
        return USAGE
    command = "hypergrad" if context is None else context.command_path
    text = printable(text).removesuffix(".")
    commands = list(getattr(getattr(context, "command", None), "commands", ()))
    hint = hint_of_usage(text, sys.argv[1:], commands)
    if hint:
        text = text.partition(". Did you mean")[0]  # Click's own
    hint = hint or f": `{command} -h` shows how"
    print(short(f"hypergrad: {text}{hint}"), file=sys.stderr)
    return USAGE
