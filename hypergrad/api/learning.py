"""The whole search in one call; `Search` is what it runs, for whoever wants to hold it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from hypergrad.api.problem import GivenBatches, GivenValidation, Options
from hypergrad.api.search import Search
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.objective import Criterion, Loss, Objective
from hypergrad.core.rules.sgd_schedules import paper_optimizer
from hypergrad.core.schedule import Schedule, schedule_in
from hypergrad.data import Images, Minibatches, train_validation_split
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.training.outer_loop import OuterStep

__all__ = [
    "PAPER_OPTIMIZER",
    "PAPER_OPTIONS",
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
    module: nn.Module | Callable[[], nn.Module],
    objective: Objective | Loss | Criterion,
    batches: GivenBatches,
    validation: GivenValidation,
    *,
    epochs: int,
    optimizer: InnerOptimizer,
    shared: bool = True,
    outer_steps: int = 10,
    first_horizons: Sequence[int] = (),
    tolerance: float = 0.05,
    options: Options | None = None,
    replay: str = "auto",
    on_step: Callable[[OuterStep], None] = lambda step: None,
    patience: int | None = None,
    budget: str | None = None,
    history: Sequence[OuterStep] | None = None,
    sign_agreement: int = 0,
    trajectories: int = 1,
    descent: str = "signs",
) -> list[OuterStep]:
    """Learn the hyperparameters of one's own training, whatever it is.

    Every outer step trains anew from the module's present weights, which are left as they are.

    Args:
        module: Any twice differentiable module, on the device and in the precision wanted; or a
            function that makes one with fresh weights.
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
        trajectories: Trainings of every outer step, which differ in weights, order and split; more
            than one: only what stands out from their scatter moves. See `Search`.
        descent: `signs`, or `averaged` for many values: see `Search`.

    Returns:
        The outer steps in order, those of `history` first; `best` picks one. The last one may be
        the worst.

    Raises:
        ValueError: For arguments out of range, data that cannot go back where that is needed,
            windows that do not fit the horizon, hyperparameters that nothing asks for, or dropout
            with `vmap` or with Hessian products in lower precision.
    """
    search = Search(
        module,
        objective,
        batches,
        validation,
        epochs=epochs,
        optimizer=optimizer,
        shared=shared,
        outer_steps=outer_steps,
        first_horizons=first_horizons,
        tolerance=tolerance,
        options=options,
        replay=replay,
        patience=patience,
        budget=budget,
        sign_agreement=sign_agreement,
        trajectories=trajectories,
        descent=descent,
    )
    for step in search.goes_on_after(history or ()):
        on_step(step)
    return search.history


def learn_schedule(
    module: nn.Module | Callable[[], nn.Module],
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
    options: Options = PAPER_OPTIONS,
    criterion: Criterion = F.cross_entropy,
    seed: int = 0,
    replay: str = "auto",
    on_step: Callable[[OuterStep], None] = lambda step: None,
    patience: int | None = None,
    budget: str | None = None,
    history: Sequence[OuterStep] | None = None,
    sign_agreement: int = 0,
    trajectories: int = 1,
    descent: str = "signs",
) -> list[OuterStep]:
    """Learn a schedule for one's own classifier: `learn`, with splits drawn anew each outer step.

    Args:
        module: Any twice differentiable classifier, on the device and in the precision wanted; or a
            function that makes one with fresh weights.
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
        trajectories: As for `learn`.
        descent: As for `learn`.

    Returns:
        As `learn`.

    Raises:
        ValueError: As `learn`, and for batches that do not fit the data.
    """
    data = Images(inputs, labels)
    splits: dict[int, tuple[Images, Images]] = {}

    def split(number: int) -> tuple[Images, Images]:
        if number not in splits:
            splits.clear()
            train, held_out = train_validation_split(
                len(data), validation, seed=seed, outer_step=number
            )
            splits[number] = data.take(train), data.take(held_out)
        return splits[number]

    return learn(
        module,
        criterion,
        lambda number: Minibatches(split(number)[0], batch_size, (seed, "ours", number)),
        lambda number: split(number)[1],
        epochs=epochs,
        optimizer=optimizer,
        shared=shared,
        outer_steps=outer_steps,
        first_horizons=first_horizons,
        tolerance=tolerance,
        options=options,
        replay=replay,
        on_step=on_step,
        patience=patience,
        budget=budget,
        history=history,
        sign_agreement=sign_agreement,
        trajectories=trajectories,
        descent=descent,
    )
