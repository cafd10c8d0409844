"""Write the two pages that are made of the code: docs/commands.md and docs/api.md.

    python -m docs._site.reference

A test holds the pages to it. Both are plain Markdown, for a forge; the site adds the docstrings.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import typer

import hypergrad
from hypergrad.cli.app import app

__all__ = ["GROUPS", "api", "commands"]

DOCS = Path(__file__).resolve().parents[1]

# Every public name, once.
GROUPS = {
    "Learning a schedule": "learn_schedule learn Search best load_schedule OuterStep",
    "Improving a usual one": "improve ImproveOptions Improvement movable",
    "Schedules": "Schedule sgd_schedule",
    "The problem": "Objective supervised accuracy FlatModel",
    "What is learned": "Hyperparameter Windows Hats Cosine WarmUp Linear Vector",
    "The inner optimiser": (
        "InnerOptimizer paper_optimizer sgd adam adamw rmsprop Rule ElementwiseClip NormClip"
    ),
    "Hypergradients": (
        "hypergradients Hypergradients HypergradientDiagnostics ForwardOptions ReverseOptions"
    ),
    "Keeping a search": "SearchLog RunFolder",
}


# Typer's commands are Click's, or, from some version on, those of a copy of its own.
class _Parameter(Protocol):
    name: str | None
    metavar: str | None
    nargs: int
    required: bool
    default: object
    param_type_name: str
    opts: list[str]
    secondary_opts: list[str]


class _Command(Protocol):
    help: str | None
    params: list[_Parameter]


def commands() -> str:
    """Return the page of commands and options."""
    group = typer.main.get_command(app)
    lines = [
        "# Commands and options",
        "",
        "Written by `python -m docs._site.reference` from what `hypergrad COMMAND -h` shows.",
        "What the commands are for, and the settings that they take as `key=value`:",
        "[the command line](command-line.md).",
        "",
    ]
    for name, command in _leaves(group, "hypergrad"):
        lines += _command(name, command)
    return "\n".join(lines).rstrip() + "\n"


def api() -> str:
    """Return the page of public names."""
    lines = [
        "# API",
        "",
        "All names of `hypergrad`, by what they are for; written by",
        "`python -m docs._site.reference`. How they go together: [the library](library.md).",
        "Further modules for users: `hypergrad.data` (batches), `hypergrad.core.losses`",
        "(ready losses), `hypergrad.differentiation.reverse` (reverse mode alone).",
        "",
    ]
    for title, names in GROUPS.items():
        lines += [f"## {title}", "", "| name | what |", "|---|---|"]
        lines += [
            f"| `{name}` | {_first_line(getattr(hypergrad, name))} |" for name in names.split()
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _leaves(command: _Command, name: str) -> Iterator[tuple[str, _Command]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for each, deeper in below.items():
        yield from _leaves(deeper, f"{name} {each}")


def _command(name: str, command: _Command) -> list[str]:
    about = inspect.cleandoc(command.help or "").split("\n")
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    typed = " ".join([name, *(_usage(each) for each in arguments), "[OPTIONS]" * bool(options)])
    lines = [f"## {name}", "", *about, "", "```", typed.rstrip(), "```", ""]
    rows = [(_usage(each), each) for each in arguments]
    rows += [(", ".join([*each.opts, *each.secondary_opts]), each) for each in options]
    if rows:
        lines += ["| argument | what |", "|---|---|"]
        lines += [f"| `{shown}` | {_help(each)}{_default(each)} |" for shown, each in rows]
        lines.append("")
    return lines


def _usage(argument: _Parameter) -> str:
    shown = (argument.metavar or argument.name or "").upper() + "…" * (argument.nargs == -1)
    return shown if argument.required else f"[{shown}]"


def _help(parameter: _Parameter) -> str:
    return str(getattr(parameter, "help", None) or "").replace("|", "\\|")


def _default(parameter: _Parameter) -> str:
    value = parameter.default
    unsaid = value is None or value is False or callable(value)
    return "" if unsaid else f" By default `{value}`."


def _first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").split("\n")[0].replace("|", "\\|")


def _write() -> None:
    for name, text in (("commands.md", commands()), ("api.md", api())):
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write()
