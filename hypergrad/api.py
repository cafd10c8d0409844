"""The whole method in one call, for people with their own model and data."""

import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hypergrad.core.budget import Budget
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.objective import Criterion, Loss, Objective
from hypergrad.core.outer_optimizer import selection_key
from hypergrad.core.rules.sgd_schedules import paper_optimizer
from hypergrad.core.schedule import Schedule, schedule_in
from hypergrad.data import (
    Batches,
    CachedBatches,
    Images,
    Minibatches,
    in_even_batches,
    train_validation_split,
)
from hypergrad.differentiation.mode import faster_options
from hypergrad.differentiation.options import ForwardOptions, settle
from hypergrad.differentiation.result import validation_batch
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.training import outer_loop
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun, differentiated
from hypergrad.training.graphed_step import Replay, replay_for
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.outer_loop import (
    InnerLoop,
    OuterData,
    OuterOptions,
    OuterProgress,
    OuterStep,
)

__all__ = [
    "PAPER_OPTIMIZER",
    "PAPER_OPTIONS",
    "OuterStep",
    "best",
    "learn",
    "learn_schedule",
    "load_schedule",
]

PAPER_OPTIMIZER = paper_optimizer(clip=3.0)
PAPER_OPTIONS = ForwardOptions(clip_products=100.0, truncation=0.15)


def load_schedule(path: str | Path, seed: int | None = None) -> Schedule:
    """Read a learned schedule from a run's `schedule.json`.

    A file that `Schedule.save` or `hypergrad export` wrote is read by `Schedule.load`.

    Args:
        path: The file, or the run directory that holds it.
        seed: Which seed's schedule; default: the one with the best validation accuracy.

    Returns:
        The schedule of that seed's best outer step.

    Raises:
        ValueError: If the file is missing, or has no schedule of that seed.
    """
    path = Path(path)
    file = path / "schedule.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{file} does not exist: give a run directory with a finished search")
    content = json.loads(file.read_text(encoding="utf-8"))
    if "schedules" not in content:
        raise ValueError(f"{file} is no schedule.json of a run: Schedule.load reads exported files")
    entries = content["schedules"]
    if seed is not None:
        entries = [entry for entry in entries if entry["seed"] == seed]
    if not entries:
        raise ValueError(f"{file} holds no schedule" + ("" if seed is None else f" of {seed=}"))
    return schedule_in(max(entries, key=lambda entry: entry["validation_accuracy"]))


def learn(
    module: nn.Module,
    objective: Objective | Loss | Criterion,
    batches: Batches | DataLoader | Callable[[int], Batches],
    validation: Sequence[Batch],
    *,
    epochs: int,
    optimizer: InnerOptimizer,
    shared: bool = True,
    outer_steps: int = 10,
    first_horizons: Sequence[int] = (),
    tolerance: float = 0.05,
    options: ForwardOptions | ReverseOptions | None = None,
    replay: str = "auto",
    on_step: Callable[[OuterStep], None] = lambda step: None,
    patience: int | None = None,
    budget: str | None = None,
    history: Sequence[OuterStep] | None = None,
    sign_agreement: int = 0,
) -> list[OuterStep]:
    """Learn the hyperparameters of one's own training, whatever it is.

    Every outer step trains anew from the module's present weights, which are left as they are.

    Args:
        module: Any twice differentiable module, on the device and in the precision wanted.
        objective: Its loss, validation loss and metric; or the loss alone, of (module, batch,
            values); or a criterion, which maps (predictions, labels) to the mean loss of a batch.
        batches: The minibatch of every inner step (see `hypergrad.data.sources`), the same in
            every outer step; or a function from the outer step to those. A DataLoader is kept in
            memory, see `CachedBatches`.
        validation: Batches of validation data; outer steps are told apart on the same.
        epochs: The horizon: how long each outer step trains.
        optimizer: The inner optimiser, with the hyperparameters that are learned.
        shared: Otherwise every inner step has a value of its own, whatever the bases are; that
            takes `ReverseOptions`.
        outer_steps: How many at most.
        first_horizons: Epochs of the first outer steps: where a learning rate starts at zero the
            weights do not move, and later windows stretch to a longer horizon.
        tolerance: Stop when every step size is under this share of its value.
        options: Forward mode (clipping of products, truncation, how Hessian products are
            computed), or reverse mode, for which any number of values costs the same. None: with
            eight values or more both are tried for a moment, and reverse mode is taken where it
            needs less than half the time (and can go back: no random numbers, data that begins
            again, memory for the states); otherwise forward mode.
        replay: Whether forward mode records its steps as CUDA graphs: `auto` (on CUDA, where it
            can), `always`, `never`. What a module counts in Python does not count then.
        on_step: Is called after every outer step.
        patience: Stop after so many outer steps without a better metric, or None.
        budget: Stop where another outer step would overshoot it: `2h`, `20trials` or
            `1e6gradients`, a Hessian product counting as two. None: no budget.
        history: Outer steps that an earlier call with the same arguments has returned; this one
            goes on after the last of them.
        sign_agreement: So many further trajectories an outer step, which differ from it in
            rounding, tell which signs are reproducible (`HypergradientDiagnostics.sign_agreement`,
            and a warning); each costs what the first did.

    Returns:
        The outer steps in order, those of `history` first; `best` picks one. The last one may be
        the worst.

    Raises:
        ValueError: For arguments out of range, data that cannot go back where that is needed,
            windows that do not fit the horizon, hyperparameters that nothing asks for, or dropout
            with `vmap` or with Hessian products in lower precision.
    """
    if not len(validation):
        raise ValueError("no validation data: give at least one batch")
    model = FlatModel(module, objective)
    theta = model.theta()
    outer = _options(
        epochs, outer_steps, first_horizons, tolerance, patience, budget, sign_agreement
    )

    if isinstance(batches, DataLoader):
        batches = CachedBatches(batches, device=theta.device)

    def data_at(number: int) -> OuterData:
        given = batches if isinstance(batches, Batches) else batches(number)
        if number and given is batches and not getattr(given, "random_access", True):
            raise ValueError(
                f"{type(given).__name__} does not fit its memory_gb and cannot begin again for "
                "another outer step: raise memory_gb, give a map-style data set or tensors, or a "
                "function that makes new batches for every outer step"
            )
        if isinstance(options, ReverseOptions) and not getattr(given, "random_access", True):
            raise ValueError(
                f"{type(given).__name__} does not fit its memory_gb and cannot go back, as reverse "
                "mode does: raise memory_gb, give a map-style data set or tensors, or use "
                "ForwardOptions"
            )
        problem = InnerProblem.over_epochs(model, theta, given, outer.horizon(number), optimizer)
        return OuterData(problem, validation, validation)

    return _learn(data_at, optimizer, shared, options, outer, replay, on_step, list(history or ()))


def learn_schedule(
    module: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int = 128,
    optimizer: InnerOptimizer = PAPER_OPTIMIZER,
    shared: bool = True,
    outer_steps: int = 10,
    validation: float = 0.05,
    first_horizons: Sequence[int] = (1,),
    tolerance: float = 0.05,
    options: ForwardOptions | ReverseOptions = PAPER_OPTIONS,
    criterion: Criterion = F.cross_entropy,
    seed: int = 0,
    replay: str = "auto",
    on_step: Callable[[OuterStep], None] = lambda step: None,
    patience: int | None = None,
    budget: str | None = None,
    history: Sequence[OuterStep] | None = None,
    sign_agreement: int = 0,
) -> list[OuterStep]:
    """Learn a schedule for one's own classifier: `learn`, with splits drawn anew each outer step.

    Args:
        module: Any twice differentiable classifier, on the device and in the precision wanted.
        inputs: `(n, ...)` training inputs on that device; a validation share is taken from them.
        labels: `(n,)` int64 labels on that device.
        epochs: The horizon: how long each outer step trains.
        batch_size: Inputs in a minibatch.
        optimizer: As for `learn`; SGD with the paper's hyperparameters unless given. Smaller first
            moves for short horizons.
        shared: As for `learn`.
        outer_steps: How many at most.
        validation: Share of the inputs to validate on, drawn anew for every outer step.
        first_horizons: As for `learn`.
        tolerance: Stop when every step size is under this share of its value.
        options: As for `learn`.
        criterion: Maps (predictions, labels) to a mean loss.
        seed: Of splits and batches.
        replay: As for `learn`.
        on_step: Is called after every outer step.
        patience: Stop after so many outer steps without a better validation accuracy, or None.
        budget: As for `learn`.
        history: As for `learn`.
        sign_agreement: As for `learn`.

    Returns:
        As `learn`.

    Raises:
        ValueError: As `learn`, and for batches that do not fit the data.
    """
    model = FlatModel(module, criterion)
    theta, data = model.theta(), Images(inputs, labels)
    outer = _options(
        epochs, outer_steps, first_horizons, tolerance, patience, budget, sign_agreement
    )

    def data_at(number: int) -> OuterData:
        train, held_out = train_validation_split(
            len(data), validation, seed=seed, outer_step=number
        )
        minibatches = Minibatches(data.take(train), batch_size, (seed, "ours", number))
        images = data.take(held_out)
        batches = list(in_even_batches(images, validation_batch(batch_size, len(images))))
        horizon = outer.horizon(number)
        problem = InnerProblem.over_epochs(model, theta, minibatches, horizon, optimizer)
        return OuterData(problem, images, batches)

    return _learn(data_at, optimizer, shared, options, outer, replay, on_step, list(history or ()))


def _options(
    epochs: int,
    outer_steps: int,
    first_horizons: Sequence[int],
    tolerance: float,
    patience: int | None,
    budget: str | None,
    sign_agreement: int,
) -> OuterOptions:
    """How the outer loop goes, or what is wrong with it."""
    if epochs < 1 or outer_steps < 1:
        raise ValueError(f"{epochs=}, {outer_steps=}: both must be at least 1")
    if patience is not None and patience < 1:
        raise ValueError(f"{patience=}: must be at least 1; None never stops early")
    if any(not isinstance(horizon, int) or horizon < 1 for horizon in first_horizons):
        raise ValueError(f"first_horizons={first_horizons}: epochs are whole numbers from 1 on")
    if sign_agreement < 0:
        raise ValueError(f"{sign_agreement=}: must be 0 or more trajectories")
    limit = None if budget is None else Budget.parse(budget)
    return OuterOptions(
        outer_steps, epochs, first_horizons, tolerance, patience, limit, sign_agreement
    )


def _learn(
    data_at: Callable[[int], OuterData],
    optimizer: InnerOptimizer,
    shared: bool,
    options: ForwardOptions | ReverseOptions | None,
    outer: OuterOptions,
    replay: str,
    on_step: Callable[[OuterStep], None],
    taken: list[OuterStep],
) -> list[OuterStep]:
    """Take the outer steps that are left."""
    if not shared and options is None:
        options = ReverseOptions()
    if not shared and (isinstance(options, ForwardOptions) or any(outer.first_horizons)):
        raise ValueError(
            "shared=False learns a value for every inner step: give options=ReverseOptions(...) "
            "and first_horizons=()"
        )
    recorded: Replay | None = None

    def begin(given: OuterData, schedule: Schedule, number: int) -> ForwardRun | ReverseRun:
        nonlocal options, recorded
        problem = given.problem
        if recorded is None:
            recorded = replay_for(problem.model, problem.theta.device, replay)
        batch, columns = problem.minibatches.at(0), len(schedule.flat)
        bound = optimizer.bind(problem.model, schedule)
        if options is None:
            options = ForwardOptions()
            if getattr(problem.minibatches, "random_access", True):
                tried = problem.model, problem.theta, batch, bound, schedule, problem.horizon
                options = faster_options(*tried)
        if isinstance(options, ForwardOptions) and options.strategy == "auto":  # decides once
            options = settle(problem.model, problem.theta, batch, columns, options, bound, schedule)
        return differentiated(problem, schedule, options, recorded)

    for step in outer_loop.outer_steps(
        data_at,
        lambda horizon: optimizer.learned(None if shared else horizon),
        begin,
        outer,
        InnerLoop(),
        taken[-1].after if taken else OuterProgress(),
    ):
        taken.append(step)
        _warn(step)
        on_step(step)
    return taken


def _warn(step: OuterStep) -> None:
    """Say what was not a finite number: such a value is not learned from."""
    texts = list(step.complaints) if step.diverged_step is None else ["training diverged"]
    if step.doubts is not None:
        warnings.warn(f"outer step {step.number}: {step.doubts}", RuntimeWarning, stacklevel=3)
    if texts:
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        warnings.warn(f"outer step {step.number}: {texts[0]}{more}", RuntimeWarning, stacklevel=3)


def best(history: Sequence[OuterStep]) -> OuterStep:
    """Return the outer step with the best validation accuracy; the loss decides a draw.

    Args:
        history: As `learn` or `learn_schedule` returns it.

    Returns:
        One of them; its `schedule` makes the optimiser and the scheduler of a training loop, and
        `schedule.save(path)` keeps it for another script.

    Raises:
        ValueError: If none of them stayed finite.
    """
    found = max(
        history,
        key=lambda step: selection_key(step.validation_accuracy, step.validation_loss),
        default=None,
    )
    if found is None or not math.isfinite(found.validation_loss):
        raise ValueError("no outer step has a finite validation loss: use smaller first moves")
    return found
