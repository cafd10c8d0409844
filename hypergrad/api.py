"""The whole method in one call, for people with their own model and data."""

import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from hypergrad.core.budget import Budget
from hypergrad.core.functional_model import Criterion, FlatModel
from hypergrad.core.outer_optimizer import selection_key
from hypergrad.core.schedule import Schedule
from hypergrad.data import Images, Minibatches, in_even_batches, train_validation_split
from hypergrad.differentiation.options import ForwardOptions, settle
from hypergrad.differentiation.result import validation_batch
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.parallel.ranks import ALONE, Ranks
from hypergrad.training import outer_loop
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun, differentiated
from hypergrad.training.graphed_step import replay_for
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.outer_loop import (
    InnerLoop,
    OuterData,
    OuterOptions,
    OuterProgress,
    OuterStep,
)

__all__ = [
    "PAPER_OPTIONS",
    "PAPER_STEP_SIZES",
    "OuterStep",
    "best",
    "learn_schedule",
    "load_schedule",
]

PAPER_STEP_SIZES = (0.1, 0.15, 4e-4)  # Appendix B
PAPER_OPTIONS = ForwardOptions(clip_gradient=3.0, clip_products=100.0, truncation=0.15)


def load_schedule(path: str | Path, seed: int | None = None) -> Schedule:
    """Read a learned schedule from a run's `schedule.json`.

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
    entries = json.loads(file.read_text())["schedules"]
    if seed is not None:
        entries = [entry for entry in entries if entry["seed"] == seed]
    if not entries:
        raise ValueError(f"{file} holds no schedule" + ("" if seed is None else f" of {seed=}"))
    return Schedule.from_dict(max(entries, key=lambda entry: entry["validation_accuracy"]))


def learn_schedule(
    module: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int = 128,
    outer_steps: int = 10,
    counts: Sequence[int] | None = (5, 1, 1),
    step_sizes: Sequence[float] = PAPER_STEP_SIZES,
    validation: float = 0.05,
    first_horizons: Sequence[int] = (1,),
    tolerance: float = 0.05,
    options: ForwardOptions | ReverseOptions = PAPER_OPTIONS,
    criterion: Criterion = F.cross_entropy,
    seed: int = 0,
    replay: str = "auto",
    on_step: Callable[[OuterStep], None] = lambda step: None,
    ranks: Ranks = ALONE,
    patience: int | None = None,
    budget: str | None = None,
    history: Sequence[OuterStep] | None = None,
) -> list[OuterStep]:
    """Learn a schedule for one's own classifier, from all-zero values.

    Every outer step trains anew from the module's present weights, which are left as they are.

    Args:
        module: Any twice differentiable classifier, on the device and in the precision wanted.
        inputs: `(n, ...)` training inputs on that device; a validation share is taken from them.
        labels: `(n,)` int64 labels on that device.
        epochs: The horizon: how long each outer step trains.
        batch_size: Inputs in a minibatch.
        outer_steps: How many at most.
        counts: Values of learning rate, momentum and weight decay; 0 leaves a kind at zero. None:
            a value of each for every inner step, which takes `ReverseOptions` and
            `first_horizons=()`.
        step_sizes: Initial outer step of each kind. Smaller ones for short horizons.
        validation: Share of the inputs to validate on, drawn anew for every outer step.
        first_horizons: Epochs of the first outer steps: at zero the weights do not move, and later
            windows stretch to a longer horizon.
        tolerance: Stop when every step size is under this share of its value.
        options: Forward mode (clipping, truncation, how Hessian products are computed), or reverse
            mode.
        criterion: Maps (predictions, labels) to a mean loss.
        seed: Of splits and batches.
        replay: Whether forward mode records its steps as CUDA graphs: `auto` (on CUDA, where it
            can), `always`, `never`. What a module counts in Python does not count then.
        on_step: Is called after every outer step.
        ranks: Processes that share the tangents, from `join_ranks` under torchrun. Each calls this
            with the same arguments, on its own device, and all get the same history.
        patience: Stop after so many outer steps without a better validation accuracy, or None.
        budget: Stop where another outer step would overshoot it: `2h`, `20trials` or
            `1e6gradients`, a Hessian product counting as two. None: no budget.
        history: Outer steps that an earlier call with the same arguments has returned; this one
            goes on after the last of them.

    Returns:
        The outer steps in order, those of `history` first; `best` picks one. The last one may be
        the worst.

    Raises:
        ValueError: For arguments out of range, batches or windows that do not fit the data, or
            dropout with `vmap` or with Hessian products in lower precision.
    """
    for name, given in (("counts", counts), ("step_sizes", step_sizes)):
        if given is not None and len(given) != 3:
            raise ValueError(
                f"{name}={given!r}: give three, for learning rate, momentum and weight decay"
            )
    if epochs < 1 or outer_steps < 1:
        raise ValueError(f"{epochs=}, {outer_steps=}: both must be at least 1")
    if patience is not None and patience < 1:
        raise ValueError(f"{patience=}: must be at least 1; None never stops early")
    if any(not isinstance(horizon, int) or horizon < 1 for horizon in first_horizons):
        raise ValueError(f"first_horizons={first_horizons}: epochs are whole numbers from 1 on")
    if counts is None and (isinstance(options, ForwardOptions) or any(first_horizons)):
        raise ValueError(
            "counts=None learns a value for every inner step: give options=ReverseOptions(...) and "
            "first_horizons=()"
        )
    model = FlatModel(module, criterion)
    theta, data = model.theta(), Images(inputs, labels)
    recorded = replay_for(model, theta.device, replay)
    outer = OuterOptions(
        outer_steps,
        epochs,
        step_sizes,
        first_horizons,
        tolerance,
        patience,
        None if budget is None else Budget.parse(budget),
    )

    def data_at(number: int) -> OuterData:
        train, held_out = train_validation_split(
            len(data), validation, seed=seed, outer_step=number
        )
        minibatches = Minibatches(data.take(train), batch_size, (seed, "ours", number))
        images = data.take(held_out)
        batches = list(in_even_batches(images, validation_batch(batch_size, len(images))))
        problem = InnerProblem.over_epochs(
            model, theta, minibatches, outer.horizon(number), options.clip_gradient
        )
        return OuterData(problem, images, batches)

    def begin(given: OuterData, schedule: Schedule, number: int) -> ForwardRun | ReverseRun:
        nonlocal options
        if isinstance(options, ForwardOptions) and options.strategy == "auto":  # decides once
            batch, columns = given.problem.minibatches.at(0), sum(schedule.counts)
            options = settle(model, theta, batch, columns, options, ranks)
        return differentiated(given.problem, schedule, options, recorded, ranks)

    taken: list[OuterStep] = list(history or ())
    for step in outer_loop.outer_steps(
        data_at,
        lambda horizon: (horizon,) * 3 if counts is None else counts,
        begin,
        outer,
        InnerLoop(ranks),
        taken[-1].after if taken else OuterProgress(),
    ):
        taken.append(step)
        _warn(step)
        on_step(step)
    return taken


def _warn(step: OuterStep) -> None:
    """Say what was not a finite number: such a value is not learned from."""
    texts = list(step.complaints) if step.diverged_step is None else ["training diverged"]
    if texts:
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        warnings.warn(f"outer step {step.number}: {texts[0]}{more}", RuntimeWarning, stacklevel=3)


def best(history: Sequence[OuterStep]) -> OuterStep:
    """Return the outer step with the best validation accuracy; the loss decides a draw.

    Args:
        history: As `learn_schedule` returns it.

    Returns:
        One of them; its `schedule.apply(optimizer, step, horizon)` goes into a training loop.

    Raises:
        ValueError: If none of them stayed finite.
    """
    found = max(
        history,
        key=lambda step: selection_key(step.validation_accuracy, step.validation_loss),
        default=None,
    )
    if found is None or not math.isfinite(found.validation_loss):
        raise ValueError("no outer step has a finite validation loss: use smaller step_sizes")
    return found
