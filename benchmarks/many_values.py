"""Where hypergradients have no rival, and where they have: searches over N values at equal cost.

    python -m benchmarks.many_values weights digits 1100 1108 results.csv --values 7 16 64 256
    python -m benchmarks.many_values results.csv    # its table

Two tasks: `weights`, of N groups of training images with unlike shares of wrong labels, and
`rates`, a learning rate for every layer and window of steps. Every search has the computing of
BUDGET trainings, among them the confirmation that chooses from its two best and the start; what is
chosen is trained anew with seeds that chose nothing, and tested. One row a search and seed; rows
that are there already are left out, so that an interrupted study goes on.
"""

import argparse
import csv
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import optuna
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.paired import Paired, holm, paired
from hypergrad import (
    Hyperparameter,
    InnerOptimizer,
    ReverseOptions,
    Schedule,
    Search,
    accuracy,
    adamw,
    sgd,
)
from hypergrad.core.basis import Vector
from hypergrad.core.batches import Nest
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.losses import Values, cross_entropy
from hypergrad.core.move_space import Candidate, MoveSpace
from hypergrad.core.objective import Objective
from hypergrad.data import TensorBatches
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun, steps

BUDGET = 86  # trainings; a Hessian product counts as two gradients
CONFIRMED = 4  # trainings of each candidate that a search confirms
JUDGED = 5
FAR = 5.0  # searches look within ± this, in the coordinates that hypergradients move
BATCH = 64
SIZES = {"digits": (1000, 250), "mnist": (2000, 500)}
EPOCHS = {"digits": 15, "mnist": 10}
WEIGHTS_RATE = {"digits": 0.1, "mnist": 0.02}  # of SGD, where `weights` are searched
HIDDEN = {"digits": (48,), "mnist": (64,)}
DEEP = (48, 48, 48)  # of `rates`: four layers
RATE = 0.003  # where those start: a tenth of what is usual with a momentum of 0.9
COLUMNS = "task data optimizer values seed search cost seconds chosen accuracies".split()


Setting = tuple[str, str, str, str]  # task, data, optimiser, values


class Problem(NamedTuple):
    """A seed's data and network, and what is searched.

    Attributes:
        network: Makes one with the weights of a seed.
        train, held_out, test: Tensors: inputs, labels, and groups in the first.
        share: `(N,)` of wrong labels in each group; None for `rates`.
        space: The start, and its coordinates.
        objective: Trained on.
        epochs: Of every training.
    """

    network: Callable[[int], nn.Module]
    train: tuple[Tensor, ...]
    held_out: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    share: Tensor | None
    space: MoveSpace
    objective: Objective
    epochs: int

    @property
    def horizon(self) -> int:
        """Inner steps."""
        return self.epochs * (len(self.train[0]) // BATCH)


class Outcome(NamedTuple):
    """What a training comes to."""

    loss: float
    accuracy: float


class Account:
    """Trains, and adds up what that costs, in trainings."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.cost = problem, 0.0

    def trained(self, schedule: Schedule, seed: int, judged_on: tuple[Tensor, ...]) -> Outcome:
        """Loss and accuracy of a training; infinite and zero where it diverged."""
        own = self.problem
        model = FlatModel(own.network(seed), own.objective)
        batches = TensorBatches(own.train, BATCH, ("many values", seed))
        inner = InnerProblem(model, model.theta(), batches, own.horizon, own.space.optimizer)
        run = ScheduledRun(inner, schedule)
        for _ in steps(run, 4):
            pass
        self.cost += run.step / own.horizon
        if not run.came_through():
            return Outcome(math.inf, 0.0)
        return Outcome(*model.evaluate(run.state.theta, run.state.buffers, [judged_on]))

    def loss(self, coordinates: Sequence[float], seed: int) -> float:
        """Validation loss of a training with these coordinates."""
        return self.trained(self.at(coordinates), seed, self.problem.held_out).loss

    def at(self, coordinates: Sequence[float]) -> Schedule:
        """The schedule of these coordinates."""
        return self.problem.space.schedule(Candidate(tuple(coordinates)), self.problem.horizon)

    def start(self) -> Schedule:
        """The schedule that nothing has moved."""
        return self.at([0.0] * self.problem.space.size)

    def confirmed(self, schedules: Sequence[Schedule]) -> Schedule:
        """The one with the least mean validation loss on common fresh seeds."""
        scores = [
            statistics.mean(
                self.trained(each, 50_000 + number, self.problem.held_out).loss
                for number in range(CONFIRMED)
            )
            for each in schedules
        ]
        return schedules[scores.index(min(scores))]


def uniform(account: Account, seed: int) -> Schedule:
    """No search."""
    return account.start()


def oracle(account: Account, seed: int) -> Schedule:
    """Groups with more than half of their labels wrong left out: what nobody knows."""
    share = account.problem.share
    if share is None:
        raise LookupError("no oracle")
    return account.at([FAR if each < 0.5 else -FAR for each in share.tolist()])


def averaged(account: Account, seed: int) -> Schedule:
    """The library's search along averages over the outer steps, with half the first moves."""
    space = account.problem.space
    halved = tuple(
        replace(each, first_move=each.first_move / 2) for each in space.optimizer.hyperparameters
    )
    return hypergradients(
        account, seed, replace(space.optimizer, hyperparameters=halved), "averaged"
    )


def hypergradients(
    account: Account, seed: int, optimizer: InnerOptimizer | None = None, descent: str = "signs"
) -> Schedule:
    """The library's own search, as anyone would call it."""
    own = account.problem
    torch.manual_seed(seed)
    left = (
        BUDGET - 3 * CONFIRMED - 2
    )  # a last outer step overshoots a budget by half of its cost at most
    search = Search(
        own.network(seed),
        own.objective,
        lambda number: TensorBatches(own.train, BATCH, ("search", seed, number)),
        [own.held_out],
        epochs=own.epochs,
        optimizer=optimizer or own.space.optimizer,
        outer_steps=left,
        descent=descent,
        budget=f"{left * own.horizon}gradients",
        options=ReverseOptions(),
    )
    for step in search:
        account.cost += (step.gradients + 2 * step.products) / own.horizon
    best = min(search.history, key=lambda step: step.validation_loss)
    return account.confirmed([account.start(), best.schedule, search.history[-1].schedule])


def tpe(account: Account, seed: int) -> Schedule:
    """Optuna's TPE with its defaults, and the start as its first trial."""
    size = account.problem.space.size
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial({f"u{index}": 0.0 for index in range(size)})
    for number in range(BUDGET - 3 * CONFIRMED):
        trial = study.ask()
        found = [trial.suggest_float(f"u{index}", -FAR, FAR) for index in range(size)]
        study.tell(trial, min(account.loss(found, number), 1e6))
    best = sorted(study.get_trials(), key=lambda each: each.value or 0.0)[:2]
    tried = [[each.params[f"u{index}"] for index in range(size)] for each in best]
    return account.confirmed([account.start(), *map(account.at, tried)])


def random_directions(account: Account, seed: int) -> Schedule:
    """Steps there and back along random signs: what the same moves come to without a derivative."""
    size = account.problem.space.size
    stream = torch.Generator().manual_seed(seed)
    here, radius, tried = [0.0] * size, 1.5, 0
    while account.cost + 6 + 2 * CONFIRMED <= BUDGET:
        signs = torch.randn(size, generator=stream).sign().tolist()
        ways = [
            [
                min(max(u + way * radius * sign, -FAR), FAR)
                for u, sign in zip(here, signs, strict=True)
            ]
            for way in (0, 1, -1)
        ]
        losses = [sum(account.loss(each, 2 * tried + k) for k in range(2)) for each in ways]
        best = losses.index(min(losses))
        here, tried = ways[best], tried + 1
        radius = radius * 0.9 if best == 0 else radius
    return account.confirmed([account.start(), account.at(here)])


SEARCHES = {
    each.__name__: each
    for each in (uniform, hypergradients, tpe, random_directions, oracle, averaged)
}
FIRST_STUDY = tuple(name for name in SEARCHES if name != "averaged")


def problem_of(task: str, data: str, optimizer: str, values: int, seed: int, root: str) -> Problem:
    """Return what a seed stands for: its own split, labels, weights and orders."""
    inputs, labels, test = _read(data, root)
    stream = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=stream)
    many, held = SIZES[data]
    chosen, validation, rest = order[:many], order[many : many + held], order[many + held :]
    held_out = inputs[validation], labels[validation]
    epochs, classes = EPOCHS[data], 10
    if task == "rates":
        network = partial(_mlp, inputs.shape[1], DEEP)
        train: tuple[Tensor, ...] = (inputs[chosen], labels[chosen])
        layers = len(DEEP) + 1
        windows = values if values < 2 * layers else values // layers
        space = _rates(windows, 1 if values < 2 * layers else layers)
        objective, share = Objective(cross_entropy), None
    else:
        network = partial(_mlp, inputs.shape[1], HIDDEN[data])
        group = torch.arange(many) % values
        share = 0.95 * torch.rand(values, generator=stream)
        wrong = torch.rand(many, generator=stream) < share[group]
        other = torch.randint(1, classes, (many,), generator=stream)
        given = (labels[chosen] + wrong * other) % classes
        train = inputs[chosen], given, group
        space, objective = _weights(values, optimizer, WEIGHTS_RATE[data]), Objective(_weighted)
    objective = Objective(objective.loss, cross_entropy, accuracy)
    test = test or (inputs[rest], labels[rest])
    return Problem(network, train, held_out, test, share, space, objective, epochs)


def _weighted(module: nn.Module, batch: Nest, values: Values) -> tuple[Tensor, Tensor]:
    """A share of each group in (0, 1), of which 1/2 is the weight one."""
    return cross_entropy(module, batch, {name: 2 * own for name, own in values.items()})


def _weights(values: int, optimizer: str, rate: float) -> MoveSpace:
    weights = Hyperparameter("group_weights", Vector(values), 0.5, 1.0, "logit")
    if optimizer == "sgd":
        rule, fixed = sgd(), {"learning_rate": rate, "momentum": 0.9, "weight_decay": 5e-4}
    else:
        rule, fixed = adamw(), {"learning_rate": 3e-3, "weight_decay": 0.01}
    still = tuple(Hyperparameter(name, 1, value, learned=False) for name, value in fixed.items())
    inner = InnerOptimizer(rule, (*still, weights))
    base = {name: (value,) for name, value in fixed.items()} | {"group_weights": (0.5,) * values}
    return MoveSpace(inner, Schedule(base, {"group_weights": Vector(values)}))


def _rates(windows: int, layers: int) -> MoveSpace:
    def of(layer: int) -> Callable[[str, nn.Parameter], bool]:
        return lambda name, parameter: layers == 1 or int(name.split(".")[0]) == 2 * layer

    rates = tuple(
        Hyperparameter(
            f"rate{layer}", windows, RATE, 0.3, "log", sets="learning_rate", where=of(layer)
        )
        for layer in range(layers)
    )
    momentum = Hyperparameter("momentum", 1, 0.9, learned=False)
    base = {each.name: (RATE,) * windows for each in rates} | {"momentum": (0.9,)}
    inner = InnerOptimizer(sgd(), (*rates, momentum))
    return MoveSpace(inner, Schedule(base))


def _mlp(inputs: int, hidden: Sequence[int], seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = [inputs, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))


def _read(data: str, root: str) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    if data == "digits":
        images, labels = map(torch.tensor, load_digits(return_X_y=True))
        inputs = images.float()
        return (inputs - inputs.mean()) / inputs.std(), labels, None
    from torchvision.datasets import MNIST

    train, test = MNIST(root, train=True), MNIST(root, train=False)
    inputs, tested = (own.data.flatten(1).float() / 255 for own in (train, test))
    mean, std = inputs.mean(), inputs.std()
    return (inputs - mean) / std, train.targets, ((tested - mean) / std, test.targets)


def study(arguments: argparse.Namespace) -> None:
    """Add the rows that are missing."""
    path: Path = arguments.file
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n")
    with path.open(newline="") as file:
        done = {tuple(row[name] for name in COLUMNS[:6]) for row in csv.DictReader(file)}
    for seed in range(arguments.first, arguments.end):
        for values in arguments.values:
            setting = arguments.task, arguments.data, arguments.optimizer, values, seed
            for name in arguments.searches:
                search = SEARCHES[name]
                if (*map(str, setting), name) in done:
                    continue
                problem = problem_of(*setting, arguments.root)
                if name == "oracle" and problem.share is None:
                    continue
                account, began = Account(problem), time.process_time()
                found = search(account, seed)
                seconds, cost = time.process_time() - began, account.cost
                judged = [account.trained(found, 90_000 + k, problem.test) for k in range(JUDGED)]
                kept = "start" if found == account.start() and name != "uniform" else "found"
                scores = " ".join(f"{each.accuracy:.6f}" for each in judged)
                with path.open("a", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerow(
                        [*setting, name, f"{cost:.1f}", f"{seconds:.1f}", kept, scores]
                    )


def summarised(path: Path, ours: str = "hypergradients") -> list[str]:
    """Lines of a Markdown table: means, and the paired differences of one search to each.

    Holm's correction goes over all differences to what is no oracle, of eight seeds or more.
    """
    found = read(path)
    tests: dict[tuple[Setting, str], float] = {}
    for setting, own in found.items():
        for name, theirs in own.items():
            if name not in (ours, "oracle") and len(own[ours]) >= 8:
                tests[setting, name] = _against(own[ours], theirs).different()
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    lines = []
    for setting, own in found.items():
        for name, theirs in own.items():
            line = f"| {' | '.join(setting)} | {name} | {len(theirs)} | "
            line += f"{statistics.mean(theirs.values()):.2f} | "
            if name != ours and len(own[ours]) > 1:
                line += str(_against(own[ours], theirs))
            p = corrected.get((setting, name))
            lines.append(line + (" | |" if p is None else f" | {p:.2g} |"))
    return lines


def read(path: Path) -> dict[Setting, dict[str, dict[str, float]]]:
    """Return mean test accuracies in %, by setting, search and seed."""
    found: dict[Setting, dict[str, dict[str, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            setting = row["task"], row["data"], row["optimizer"], row["values"]
            scores = [100 * float(each) for each in row["accuracies"].split()]
            own = found.setdefault(setting, {}).setdefault(row["search"], {})
            own[row["seed"]] = statistics.mean(scores)
    return found


def _against(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Paired:
    seeds = [seed for seed in ours if seed in theirs]
    return paired([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("weights", "rates"))
    parser.add_argument("data", choices=tuple(SIZES))
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--values", type=int, nargs="+", default=(7, 16, 64))
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
    parser.add_argument("--searches", nargs="+", choices=tuple(SEARCHES), default=FIRST_STUDY)
    parser.add_argument("--root", default="../shared/data")
    if len(sys.argv) <= 3:  # a record, and perhaps whose differences
        print("\n".join(summarised(Path(sys.argv[1]), *sys.argv[2:])))
    else:
        study(parser.parse_args())
