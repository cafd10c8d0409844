"""Do second-order steps over the trajectories' hypergradients improve more than gated signs?

    python -m benchmarks.second_order improve_digits 1000 1008 results.csv [overrides]

For each search seed `hypergrad improve` runs with each way to make a direction of the same
trajectories' hypergradients, and says how much less its loss is than the base's on fresh trainings.
"""

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from hypergrad.config.composition import compose
from hypergrad.core.move_space import Candidate
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.drivers.context import RunContext, prepare
from hypergrad.drivers.improve.space import improve_options, move_space
from hypergrad.drivers.improve.subjects import subject_of
from hypergrad.training.improvement import iterations
from hypergrad.training.improvement.direction import gated
from hypergrad.training.improvement.follow import follow, one_by_one
from hypergrad.training.improvement.interval import interval
from hypergrad.training.improvement.options import ImproveOptions
from hypergrad.training.improvement.plan import Found, cap_of, improvement
from hypergrad.training.improvement.trainer import outcome_of, untrained_loss
from hypergrad.training.improvement.trainings import Asking, Key, Outcome, Training

Moves = tuple[float, ...]
Seen = Sequence[tuple[Moves, int]]  # hypergradients, and the iteration that they are of
COLUMNS = "experiment seed way difference half chosen trainings gradients products".split()

places: list[Moves] = []  # where each iteration's trajectories were
reach: list[float] = []  # of a step in each coordinate: the unit of a direction


def signs(seen: Seen, number: int, options: ImproveOptions) -> Moves:
    """Gated signs, as `hypergrad improve` has them."""
    weights = [options.memory ** (number - earlier) for _, earlier in seen]
    return gated([each for each, _ in seen], weights, options.gate)


def fisher(seen: Seen, number: int, options: ImproveOptions) -> Moves:
    """`-(C + ridge)^-1 m`: mean and second moments of the hypergradients, longest entry 1."""
    H = torch.tensor([each for each, _ in seen], dtype=torch.float64) * torch.tensor(reach)
    w = torch.tensor([options.memory ** (number - of) for _, of in seen], dtype=torch.float64)
    w = (w / w.sum())[:, None]
    m = (w * H).sum(dim=0)
    C = (w * H).T @ H
    ridge = C.diagonal().mean() * torch.eye(len(m), dtype=torch.float64)
    d = -torch.linalg.solve(C + ridge, m)
    return tuple((d / d.abs().max().clamp_min(1e-300)).tolist())


def secant(seen: Seen, number: int, options: ImproveOptions) -> Moves:
    """A diagonal secant step where the curvature is positive, else gated signs; within [-1, 1]."""
    plain = signs(seen, number, options)
    means = {}
    for of in {of for _, of in seen}:
        own = torch.tensor([each for each, earlier in seen if earlier == of], dtype=torch.float64)
        means[of] = own.mean(dim=0).tolist()
    before = [of for of in means if of < number and places[of - 1] != places[number - 1]]
    if not before or number not in means:
        return plain
    last = max(before)
    step = []
    for i, sign in enumerate(plain):
        dx = places[number - 1][i] - places[last - 1][i]
        dg = means[number][i] - means[last][i]
        newton = -means[number][i] * dx / dg / reach[i] if dx and dg and dg / dx > 0 else sign
        step.append(min(max(newton, -1.0), 1.0))
    return tuple(step)


WAYS = {each.__name__: each for each in (signs, fisher, secant)}


def found_by(context: RunContext, seed: int, way: Callable[..., Moves] | None) -> Found:
    """Improve with a way to make a direction; None for random ones."""
    config = context.config
    space, options = move_space(config), improve_options(config, seed)
    if way is None:
        options = type(options)(**{**vars(options), "direction": "random"})
    places.clear()
    reach[:] = space.reach
    asked = iterations._trajectories

    def noted(at: Candidate, *given: object) -> Asking[Sequence[Outcome]]:
        places.append(at.moves)
        return asked(at, *given)  # type: ignore[arg-type]

    def train(training: Training) -> Outcome:
        subject = subject_of(training.key, seed, config, context.data, space)
        return outcome_of(training, subject, space, ReverseOptions())

    first = subject_of(Key("ladder", 0), seed, config, context.data, space)
    plain = iterations._direction
    iterations._trajectories, iterations._direction = noted, way or plain  # type: ignore[assignment]
    try:
        plan = improvement(space, options, cap_of(untrained_loss(first), options))
        return follow(plan, one_by_one(train))
    finally:
        iterations._trajectories, iterations._direction = asked, plain


def study(experiment: str, seeds: Sequence[int], path: Path, overrides: Sequence[str]) -> None:
    """Write a row a seed and way; then, of each way, the mean difference to the base."""
    context = prepare(compose(experiment, overrides)[0])
    differences: dict[str, list[float]] = {}
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for seed in seeds:
            for name, way in {**WAYS, "random": None}.items():
                found = found_by(context, seed, way)
                mean, half = (0.0, 0.0) if found.loss is None else found.loss
                differences.setdefault(name, []).append(mean)
                row = experiment, seed, name, f"{mean:.6f}", f"{half:.6f}", found.name
                spent = found.spent
                writer.writerow([*row, spent.trials, spent.gradients, spent.products])
                file.flush()
    for name, own in differences.items():
        others = interval([a - b for a, b in zip(differences["signs"], own, strict=True)])
        print(f"{name}: {interval(own)} against the base; signs - this {others}")


if __name__ == "__main__":
    study(sys.argv[1], range(int(sys.argv[2]), int(sys.argv[3])), Path(sys.argv[4]), sys.argv[5:])
