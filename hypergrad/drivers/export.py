"""The schedule of a run as it travels: from a run directory to a file of its own."""

import csv
import json
from collections.abc import Mapping
from dataclasses import replace

from hypergrad.config.composition import load_run
from hypergrad.config.schema import RunConfig
from hypergrad.core.rules.learned_for import LearnedFor
from hypergrad.core.schedule import Schedule, schedule_in
from hypergrad.core.schedule_file import Origin
from hypergrad.drivers.inner_optimizer import inner_optimizer
from hypergrad.drivers.run_folder import is_of_a_script
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.plain_files import read_csv_bytes
from hypergrad.runs.provenance import first_recorded

__all__ = ["exported"]

ACCURACY = "validation_accuracy"


def exported(run: RunDirectory, seed: int | None = None) -> Schedule:
    """Return a schedule that a run has learned or chosen, with everything that a file says of it.

    Args:
        run: Of `hypergrad run` or `hypergrad baselines`; need not have finished.
        seed: Which of its seeds; default: the one with the best validation accuracy.

    Raises:
        ValueError: For a run without a schedule (of that seed), and one of an earlier version with
            groups of parameters that it did not write down.
    """
    if members := run.read_json("members.json").get("members"):
        names = ", ".join(str(member.get("name")) for member in members[:3])
        raise ValueError(f"{run.path} is made of runs: export one of them, as {run.path}/{names}")
    entries = run.read_json("schedule.json").get("schedules", [])
    chosen = [entry for entry in entries if seed in (None, entry["seed"])]
    if not chosen:
        found = ", ".join(str(entry["seed"]) for entry in entries)
        raise ValueError(
            f"{run.path} holds no schedule"
            + (" yet" if seed is None else f" of seed {seed}: there are {found or 'none'}")
        )
    entry = max(chosen, key=lambda entry: entry[ACCURACY])
    schedule = schedule_in(entry)
    if is_of_a_script(run):
        kept = "steps", "epochs", "outer_step", "validation_loss", ACCURACY
        seen = {name: entry.get(name) for name in kept}
        commit = _text(first_recorded(run, "git_commit"))
        origin = Origin(**seen, network=run.read_summary()["settings"]["model"], commit=commit)
        return Schedule(schedule, schedule.bases, schedule.learned_for, origin)
    config = load_run(run)
    known = _learned_for(run, config, schedule.learned_for)
    return Schedule(schedule, schedule.bases, known, _origin(run, config, entry))


def _learned_for(run: RunDirectory, config: RunConfig, kept: LearnedFor | None) -> LearnedFor:
    """What the run wrote down; of an older run, what its configuration says."""
    if kept is not None and kept.groups and kept.clip is not None:
        return kept
    configured = inner_optimizer(config).learned_for()
    if not configured.groups:
        raise ValueError(
            f"{run.path} is of an earlier version, which did not write down the parameters of "
            "each group: run it again"
        )
    return configured


def _origin(run: RunDirectory, config: RunConfig, entry: Mapping) -> Origin:
    seed, model, summary = entry["seed"], config.model, run.read_summary()
    method = config.search.kind if config.driver == "search" else "ours_retrained"
    method = "improved" if config.driver == "improve" else method
    retrained = [
        result["test_accuracy"]
        for result in summary.get("results", [])
        if (result["seed"], result["method"], result["diverged"]) == (seed, method, False)
    ]
    found = Origin(
        batch_size=config.method.batch_size,
        seed=seed,
        seeds=tuple(config.seeds),
        outer_step=entry.get("outer_step"),
        validation_loss=entry.get("validation_loss"),
        validation_accuracy=entry[ACCURACY],
        retrained_test_accuracy=retrained[0] if retrained else None,
        data=config.data.name,
        data_fingerprint=_text(first_recorded(run, "data_fingerprint")),
        network=model.name,
        network_options=json.dumps(dict(model.options), default=str) if model.options else None,
        network_source=_text(first_recorded(run, "model_source")),
        commit=_text(first_recorded(run, "git_commit")),
        confirmed=entry.get("confirmed"),
    )
    return replace(found, **_horizon(run, config, entry))


def _horizon(run: RunDirectory, config: RunConfig, entry: Mapping) -> dict[str, int]:
    """Steps and epochs of the training that the schedule was learned on, or chosen for."""
    if config.driver == "improve":
        return {"steps": entry["steps"], "epochs": config.epochs}
    if config.driver == "search":
        wanted, name = {"seed": entry["seed"]}, "finals.csv"
    else:
        wanted = {"seed": entry["seed"], "method": "ours", "outer_step": entry["outer_step"]}
        name = "inner.csv"
    try:
        lines = read_csv_bytes(run.path / name).decode("utf-8").splitlines()
        rows = [
            row
            for row in csv.DictReader(lines)
            if all(row[key] == str(value) for key, value in wanted.items())
        ]
    except FileNotFoundError:  # a record without it
        return {}
    if not rows:
        return {}
    last = rows[-1]
    steps = "steps" if "steps" in last else "step"
    epochs = float(last["epoch"]) if "epoch" in last else config.epochs
    return {"steps": int(last[steps]), "epochs": round(epochs)}


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)
