"""The file in which a schedule travels: versioned JSON, written whole and read without trust.

The only place in `core` that touches a disk.
"""

import json
import math
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from hypergrad.core.basis import Basis, basis_from, described
from hypergrad.core.gradient_transforms import (
    ElementwiseClip,
    GradientTransform,
    NoClip,
    NormClip,
)
from hypergrad.core.rules.learned_for import Fixed, Group, LearnedFor
from hypergrad.core.strict_json import Node, parsed, read_json
from hypergrad.version import __version__

__all__ = [
    "FORMAT",
    "VERSION",
    "Contents",
    "Origin",
    "learned_for_as_dict",
    "learned_for_from",
    "read",
    "text_of",
    "write",
]

FORMAT = "hypergrad schedule"
VERSION = 1
PARTS = ("format", "version", "hypergrad", "values", "bases", "learned_for", "origin")
DEPTH = 8  # bases within bases; a vector of what is warmed up has 3


@dataclass(frozen=True)
class Origin:
    """Where a schedule comes from, for people: nothing is computed from it.

    Attributes:
        steps: Inner steps of the training that it was learned on.
        epochs: Its epochs.
        batch_size: Examples in its minibatches.
        seed: Of the repeat.
        seeds: Of all repeats of the run.
        outer_step: Which of the outer loop, from 0.
        validation_loss: At the end of that training.
        validation_accuracy: Likewise; the metric, where it is another.
        retrained_test_accuracy: Of a training on the full training set with it.
        data: Name of the data.
        data_fingerprint: Of pixels and labels, hexadecimal.
        network: Its name.
        network_options: What it was built with, as JSON.
        network_source: SHA-256 of the source of a network of the user's own.
        commit: Of hypergrad, that learned it.
        confirmed: On what it was found to hold, and by how much: see `hypergrad.improve`.
    """

    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    seeds: tuple[int, ...] | None = None
    outer_step: int | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    retrained_test_accuracy: float | None = None
    data: str | None = None
    data_fingerprint: str | None = None
    network: str | None = None
    network_options: str | None = None
    network_source: str | None = None
    commit: str | None = None
    confirmed: str | None = None


WHOLE = ("steps", "epochs", "batch_size", "seed", "outer_step")
NUMBERS = ("validation_loss", "validation_accuracy", "retrained_test_accuracy")


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
        values: Coefficients of every hyperparameter that is learned.
        bases: Of each.
        learned_for: The training that they suit; None if that is not known.
        origin: Where they come from; None likewise.
    """

    values: dict[str, tuple[float, ...]]
    bases: dict[str, Basis]
    learned_for: LearnedFor | None
    origin: Origin | None


def write(path: str | Path, contents: Contents) -> None:
    """Write a file, whole or not at all.

    Raises:
        ValueError: As `text_of`.
        OSError: If it cannot be written.
    """
    path, text = Path(path), text_of(contents)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def read(path: str | Path) -> Contents:
    """Read a file that `write` wrote, and nothing else.

    Raises:
        ValueError: In one line: for another file, another version, and whatever does not fit.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder: write the schedule of a run to a file with `hypergrad export`"
        )
    try:
        return _contents(read_json(path))
    except ValueError as error:
        text = " ".join(str(error).split())
        if text.startswith(str(path)):
            raise ValueError(text) from None
        raise ValueError(f"{path} is no whole schedule file: {text}") from None


def text_of(contents: Contents) -> str:
    """Return what a file of a schedule says.

    Raises:
        ValueError: For values that are not finite, what cannot be written down (a basis or a
            gradient transform of the user's own), and what `read` would not take.
    """
    values, bases, learned_for, origin = contents
    for name, own in values.items():
        if not all(map(math.isfinite, own)):
            raise ValueError(f"{name} has values that are no finite numbers: nothing to keep")
    found = {
        "format": FORMAT,
        "version": VERSION,
        "hypergrad": __version__,
        "values": {name: list(own) for name, own in values.items()},
        "bases": {name: described(basis) for name, basis in bases.items()},
        "learned_for": None if learned_for is None else learned_for_as_dict(learned_for),
        "origin": None if origin is None else _origin_as_dict(origin),
    }
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        _contents(parsed(text.encode()))
    except ValueError as error:
        raise ValueError(f"nobody could read the file of this schedule: {error}") from None
    return text


def learned_for_as_dict(learned_for: LearnedFor) -> dict[str, Any]:
    """Return what `learned_for_from` makes the same from again, ready for JSON.

    Raises:
        ValueError: For a basis or a gradient transform of the user's own, which is code.
    """
    return {
        "kind": learned_for.kind,
        "options": dict(learned_for.options),
        "values": dict(learned_for.values),
        "groups": [
            {"hyperparameters": dict(group.hyperparameters), "parameters": list(group.parameters)}
            for group in learned_for.groups
        ],
        "of_loss": dict(learned_for.of_loss),
        "fixed": {
            name: {"values": list(each.values), "basis": described(each.basis)}
            for name, each in learned_for.fixed.items()
        },
        "clip": None if learned_for.clip is None else _clip_as_dict(learned_for.clip),
    }


def learned_for_from(kept: Node) -> LearnedFor:
    """Return what `learned_for_as_dict` was given; what an earlier version left out is unknown.

    Raises:
        ValueError: For anything else, with where it is.
    """
    optional = ("groups", "of_loss", "fixed", "clip")
    found = kept.members(("kind", "options", "values"), optional)

    def given(name: str, empty: object) -> Node:
        return found.get(name, Node(empty))

    return LearnedFor(
        found["kind"].text(),
        {name: each.flag_or_number() for name, each in found["options"].entries().items()},
        {name: each.number() for name, each in found["values"].entries().items()},
        tuple(_group(each) for each in given("groups", []).items()),
        given("of_loss", {}).texts(),
        {name: _fixed(each) for name, each in given("fixed", {}).entries().items()},
        given("clip", None).optional(_clip),
    )


def _contents(file: Node) -> Contents:
    if not isinstance(file.value, dict) or file.value.get("format") != FORMAT:
        of_run = isinstance(file.value, dict) and "schedules" in file.value
        hint = " (hypergrad.load_schedule reads a run's schedule.json)" if of_run else ""
        raise ValueError(f'no "format": "{FORMAT}"{hint}')
    version = file.value.get("version")
    if version != VERSION or isinstance(version, bool):
        raise ValueError(
            f"its version is {str(version)[:20]}, and this hypergrad reads {VERSION}: install the "
            "one that wrote it"
        )
    parts = file.members(PARTS)
    parts["hypergrad"].optional(Node.text)
    values = {name: each.numbers() for name, each in parts["values"].entries().items()}
    bases = {name: _basis(each) for name, each in parts["bases"].members(values).items()}
    for name, basis in bases.items():
        if len(values[name]) != basis.count * basis.size:
            raise ValueError(
                f"{len(values[name])} values of {name} for a basis of {basis.count * basis.size}"
            )
    learned_for = parts["learned_for"].optional(learned_for_from)
    if learned_for is not None:
        learned_for.check_names(values)
    return Contents(values, bases, learned_for, parts["origin"].optional(_origin))


def _basis(kept: Node, depth: int = 0) -> Basis:
    found = kept.entries()
    kind = found["kind"].text() if "kind" in found else ""
    if depth >= DEPTH:
        raise kept.wrong("bases nested too deeply")
    inner = {"basis": _basis(found["basis"], depth + 1)} if "basis" in found else {}
    if kind == "warmup":
        kept.members(("kind", "share", "basis"))
        found["share"].number()
    elif kind == "vector":
        kept.members(("kind", "size", "basis"))
        found["size"].count()
    else:
        kept.members(("kind", "count"))
        found["count"].count()
    plain = {name: each.value for name, each in found.items() if name != "basis"}
    try:
        return basis_from({**plain, **({"basis": described(inner["basis"])} if inner else {})})
    except ValueError as error:
        raise kept.wrong(str(error)) from None


def _group(kept: Node) -> Group:
    found = kept.members(("hyperparameters", "parameters"))
    return Group(
        found["hyperparameters"].texts(), tuple(e.text() for e in found["parameters"].items())
    )


def _fixed(kept: Node) -> Fixed:
    found = kept.members(("values", "basis"))
    values, basis = found["values"].numbers(), _basis(found["basis"])
    if len(values) != basis.count * basis.size:
        raise kept.wrong(f"{len(values)} values for a basis of {basis.count * basis.size}")
    return Fixed(values, basis)


def _clip_as_dict(clip: GradientTransform) -> dict[str, Any]:
    match clip:
        case NoClip():
            return {"kind": "none"}
        case ElementwiseClip(limit):
            return {"kind": "elementwise", "limit": limit}
        case NormClip(limit):
            return {"kind": "norm", "limit": limit}
    raise ValueError(f"the gradient transform {clip} cannot be written down: it is code")


def _clip(kept: Node) -> GradientTransform:
    found = kept.members(("kind",), ("limit",))
    kind = found["kind"].text()
    if kind == "none":
        return NoClip()
    if kind not in ("elementwise", "norm"):
        raise kept.wrong(f"no clip {kind[:20]!r}: none, elementwise or norm")
    limit = kept.members(("kind", "limit"))["limit"].number()
    return ElementwiseClip(limit) if kind == "elementwise" else NormClip(limit)


def _origin_as_dict(origin: Origin) -> dict[str, Any]:
    found = {each.name: getattr(origin, each.name) for each in fields(origin)}
    for name in NUMBERS:
        if found[name] is not None and not math.isfinite(found[name]):
            found[name] = None
    return {**found, "seeds": None if origin.seeds is None else list(origin.seeds)}


def _origin(kept: Node) -> Origin:
    names = [each.name for each in fields(Origin)]
    found = kept.members((), names)
    own: dict[str, Any] = {}
    for name, each in found.items():
        if name in WHOLE:
            own[name] = each.optional(Node.integer)
        elif name in NUMBERS:
            own[name] = each.optional(Node.number)
        elif name == "seeds":
            own[name] = each.optional(lambda listed: tuple(n.integer() for n in listed.items()))
        else:
            own[name] = each.optional(Node.text)
    return Origin(**own)
