"""Does an improved schedule hold? Retrained beside its base, the present loop and a tuned cosine.

    python -m benchmarks.improvement improve_digits 1000 1008 results.csv

For each search seed every method finds a schedule; then each is trained anew on the whole training
set with seeds that chose nothing, the same for all methods, and tested. One row a method and seed;
rows that are there already are left out, so that an interrupted study goes on.
"""

import csv
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

import hypergrad
from hypergrad.config.composition import compose
from hypergrad.core.budget import Spent
from hypergrad.core.move_space import MoveSpace
from hypergrad.core.schedule import Schedule
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.drivers.context import RunContext, make_model, prepare
from hypergrad.drivers.improve.space import improve_options, move_space
from hypergrad.drivers.improve.subjects import subject_of
from hypergrad.training.improvement.follow import follow, one_by_one
from hypergrad.training.improvement.interval import interval
from hypergrad.training.improvement.plan import cap_of, improvement
from hypergrad.training.improvement.trainer import outcome_of, untrained_loss
from hypergrad.training.improvement.trainings import Key, Outcome, Training, capped
from hypergrad.training.inner_run import ScheduledRun, steps

RETRAININGS = 5
FIRST = 1000  # number of the judgement's first key here: a plan uses those from 0
GRID = [(rate, momentum) for rate in (0.02, 0.05, 0.1, 0.2, 0.5) for momentum in (0.0, 0.9)]
REPEATS = 5  # trainings of each setting of the grid
COLUMNS = "experiment seed method gradients products trainings seconds note accuracies".split()
# The present loop as the experiments fig1_mnist and from_zero have it.
LOOPS = {"mnist": ((0.05, 0.075, 2e-4), 8), "digits": ((0.1, 0.15, 4e-4), 10)}


class Method(NamedTuple):
    """A schedule over any horizon, what it cost, and what is worth a note."""

    over: Callable[[int], Schedule]
    spent: Spent
    note: str


def base(context: RunContext, seed: int) -> Method:
    """The default schedule."""
    space = move_space(context.config)
    return Method(lambda horizon: space.schedule(space.origin, horizon), Spent(), "")


def improved(context: RunContext, seed: int, direction: str = "hypergradients") -> Method:
    """`hypergrad improve`, without its own judgement."""
    config = context.config
    space = move_space(config)
    options = improve_options(config, seed)
    options = type(options)(**{**vars(options), "direction": direction, "judged": 0})

    def train(training: Training) -> Outcome:
        subject = subject_of(training.key, seed, config, context.data, space)
        return outcome_of(training, subject, space, ReverseOptions())

    first = subject_of(Key("ladder", 0), seed, config, context.data, space)
    found = follow(
        improvement(space, options, cap_of(untrained_loss(first), options)), one_by_one(train)
    )
    note = f"{found.name} x{found.chosen.factor:g} " + " ".join(
        f"{move:.2f}" for move in found.chosen.moves
    )
    return Method(lambda horizon: space.schedule(found.chosen, horizon), found.spent, note)


def ladder(context: RunContext, seed: int) -> Method:
    """The margin ladder alone."""
    config = context.config
    space = move_space(config)
    options = improve_options(config, seed)
    options = type(options)(**{**vars(options), "iterations": 0, "judged": 0})

    def train(training: Training) -> Outcome:
        subject = subject_of(training.key, seed, config, context.data, space)
        return outcome_of(training, subject, space, ReverseOptions())

    first = subject_of(Key("ladder", 0), seed, config, context.data, space)
    found = follow(
        improvement(space, options, cap_of(untrained_loss(first), options)), one_by_one(train)
    )
    note = f"{found.name} x{found.chosen.factor:g}"
    return Method(lambda horizon: space.schedule(found.chosen, horizon), found.spent, note)


def random(context: RunContext, seed: int) -> Method:
    """The same with random directions."""
    return improved(context, seed, "random")


def tuned(context: RunContext, seed: int) -> Method:
    """The best cosine of a grid by mean validation loss over common trainings."""
    config, spent = context.config, Spent()
    cap, scored = 3.0, []
    for rate, momentum in GRID:
        _, space = _cosine(context, rate, momentum)
        losses = []
        for number in range(REPEATS):
            key = Key("grid", number)
            subject = subject_of(key, seed, config, context.data, space)
            outcome = outcome_of(Training(key, space.origin), subject, space, ReverseOptions())
            losses.append(capped(outcome.loss, cap))
            spent = spent.plus(outcome.spent)
        scored.append((statistics.mean(losses), rate, momentum))
    _, rate, momentum = min(scored)
    over, _ = _cosine(context, rate, momentum)
    return Method(over, spent, f"rate {rate:g} momentum {momentum:g}")


def _cosine(
    context: RunContext, rate: float, momentum: float
) -> tuple[Callable[[int], Schedule], MoveSpace]:
    names = f"baseline.learning_rate={rate}", f"baseline.momentum={momentum}"
    config, _ = compose(context.config.experiment, names)
    space = move_space(config)
    return (lambda horizon: space.schedule(space.origin, horizon)), space


def loop(context: RunContext, seed: int) -> Method:
    """The present loop: sign descent from zero, the best single run by validation."""
    config = context.config
    moves, outer_steps = LOOPS[config.data.name]
    began = time.monotonic()
    history = hypergrad.learn_schedule(
        make_model(config, context.data, seed).module,
        context.data.train.images,
        context.data.train.labels,
        epochs=config.epochs,
        batch_size=config.method.batch_size,
        optimizer=hypergrad.paper_optimizer(first_moves=moves, clip=3.0),
        outer_steps=outer_steps,
        validation=config.improve.validation_fraction,
        options=hypergrad.ForwardOptions(strategy=config.hvp_strategy),
        seed=seed,
    )
    chosen = hypergrad.best(history)
    spent = history[-1].after.spent if history[-1].after else Spent()
    spent = spent._replace(seconds=time.monotonic() - began)
    return Method(lambda horizon: chosen.schedule, spent, f"outer step {chosen.number}")


METHODS = {each.__name__: each for each in (base, improved, tuned, loop, ladder, random)}


def retrained(context: RunContext, seed: int, method: Method) -> list[float]:
    """Test accuracies of fresh trainings on the whole training set."""
    space, found = move_space(context.config), []
    for number in range(RETRAININGS):
        key = Key("judge", FIRST + number)
        subject = subject_of(key, seed, context.config, context.data, space)
        problem, judged, lost = subject.problem, subject.validation, subject.lost
        run = ScheduledRun(problem, method.over(problem.horizon))
        for _ in steps(run, 4):
            pass
        whole = run.done and run.is_finite()
        state = run.state
        score = problem.model.evaluate(state.theta, state.buffers, judged)[1] if whole else lost
        found.append(score)
    return found


def study(experiment: str, seeds: Sequence[int], path: Path, overrides: Sequence[str]) -> None:
    """Add the rows that are missing."""
    context = prepare(compose(experiment, overrides)[0])
    done = set()
    if path.exists():
        with path.open(newline="") as file:
            done = {
                (row["experiment"], int(row["seed"]), row["method"]) for row in csv.DictReader(file)
            }
    else:
        path.write_text(",".join(COLUMNS) + "\n")
    for name, find in METHODS.items():  # the first comparison is whole before the others
        for seed in seeds:
            if (experiment, seed, name) in done:
                continue
            torch.manual_seed(seed)
            method = find(context, seed)
            accuracies = " ".join(f"{each:.6f}" for each in retrained(context, seed, method))
            spent = method.spent
            row = (experiment, seed, name, spent.gradients, spent.products, spent.trials)
            with path.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(
                    [*row, f"{spent.seconds:.1f}", method.note, accuracies]
                )


def summarised(path: Path) -> list[str]:
    """Lines of a Markdown table: mean, worst, and the difference of `improved` to each."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = []
    for experiment in dict.fromkeys(row["experiment"] for row in rows):
        own: dict[str, dict[str, list[float]]] = {}
        for row in rows:
            if row["experiment"] == experiment:
                scores = [100 * float(each) for each in row["accuracies"].split()]
                own.setdefault(row["method"], {})[row["seed"]] = scores
        for name, by_seed in own.items():
            common = [seed for seed in by_seed if seed in own["improved"]]
            every = [score for seed in common for score in by_seed[seed]]
            more = [
                statistics.mean(own["improved"][seed]) - statistics.mean(by_seed[seed])
                for seed in common
            ]
            mean, half = interval(more)
            against = "" if name == "improved" else f"{mean:+.2f} ± {half:.2f}"
            costs = [
                int(r["gradients"]) + 2 * int(r["products"])
                for r in rows
                if r["experiment"] == experiment and r["method"] == name
            ]
            lines.append(
                f"| {experiment} | {name} | {len(common)} | {statistics.mean(every):.2f} | "
                f"{min(every):.2f} | {against} | {statistics.mean(costs):,.0f} |"
            )
    return lines


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print("\n".join(summarised(Path(sys.argv[1]))))
    else:
        study(
            sys.argv[1],
            range(int(sys.argv[2]), int(sys.argv[3])),
            Path(sys.argv[4]),
            sys.argv[5:],
        )
