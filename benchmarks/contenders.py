"""What is timed: the same inner step, taken in every way that fits the network."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from benchmarks.differences import difference_step
from benchmarks.reference import reference_step
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import BoundOptimizer, InnerOptimizer
from hypergrad.core.rules import State
from hypergrad.core.rules.sgd import NAMES
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import InnerState, train_step
from hypergrad.curvature import STRATEGIES, gradient
from hypergrad.curvature.autotune import check_strategy
from hypergrad.differentiation.active_tangents import active_tangents_at
from hypergrad.differentiation.forward import forward_step
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.recursion import Tangents
from hypergrad.differentiation.reverse_step import reverse_step
from hypergrad.models import build
from hypergrad.training.cuda_graph import WARM_UP, Recorder
from hypergrad.training.graphed_step import Replay

__all__ = ["REPLAYED", "CASES", "Case", "contenders", "schedule_of"]

LIMIT, HORIZON = 3.0, 1000
REPLAYED = ", replayed"  # after the name of a strategy
DIFFERENCE = {torch.float32: 1e-3, torch.float64: 1e-6}


class Case(NamedTuple):
    """A network of the paper, and its batches.

    Attributes:
        name: Of the network, for `models.build`.
        options: Its options.
        shape: (channels, height, width) of an image.
        batch_size: Examples.
        strategy: How forward mode computes Hessian products when a whole run is measured.
        batched: Columns beyond which `vmap` is left out: it holds the activations of all of them.
        columns: Numbers of columns that a CPU gets through in minutes.
    """

    name: str
    options: Mapping[str, int | float]
    shape: tuple[int, int, int]
    batch_size: int
    strategy: str
    batched: int
    columns: tuple[int, ...]


ALL_COLUMNS = (1, 2, 3, 7, 16, 32)
CASES: Mapping[str, Case] = {
    "mlp_8x8": Case("mlp", {}, (1, 8, 8), 32, "stacked", 32, ALL_COLUMNS),
    "mlp": Case("mlp", {}, (1, 28, 28), 128, "stacked", 32, ALL_COLUMNS),
    "lenet": Case("lenet", {}, (1, 28, 28), 128, "stacked", 32, ALL_COLUMNS),
    "wrn_16_1": Case("wrn", {"width": 1}, (3, 32, 32), 256, "fused", 4, (1, 7)),
    "wrn_16_4": Case("wrn", {"width": 4}, (3, 32, 32), 128, "fused", 0, (1,)),
}


def schedule_of(columns: int) -> Schedule:
    """Return a schedule of so many values.

    Args:
        columns: `N`, at least 1: a learning rate, then a momentum, a weight decay, and further
            learning rates.

    Returns:
        The schedule.

    Raises:
        ValueError: If `N` is below 1.

    >>> schedule_of(7).counts
    {'learning_rate': 5, 'momentum': 1, 'weight_decay': 1}
    """
    if columns < 1:
        raise ValueError(f"{columns} columns: give at least 1")
    return sgd_schedule(
        (0.01,) * max(1, columns - 2),
        (0.9,) if columns > 1 else (),
        (1e-3,) if columns > 2 else (),
    )


def contenders(
    case: Case,
    columns: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    replay: bool = False,
) -> dict[str, Callable[[], object]]:
    """Return what there is to time, by name.

    Args:
        case: The network and the size of its batches, which are random numbers.
        columns: `N`, tangents, at least 1.
        device: Where to compute.
        dtype: In what.
        replay: Whether to add each strategy on fixed tensors, on CUDA replayed from a graph.

    Returns:
        `gradient`: the gradient alone, in units of which the others can be seen. `reference` and
        the library's strategies: the inner step with all tangents. `reverse`: the step and the way
        back through it, which does not depend on `N`. `finite_differences`: one step of each of
        `2 N` trainings.
    """
    torch.manual_seed(0)
    options = dict(case.options)
    module = build(case.name, case.shape, 10, options=options).to(device, dtype)
    model = FlatModel(module)
    theta = model.theta()
    x = torch.randn(case.batch_size, *case.shape, device=device, dtype=dtype)
    batch = x, torch.arange(case.batch_size, device=device) % 10
    schedule = schedule_of(columns)
    optimizer = InnerOptimizer(transform=ElementwiseClip(LIMIT)).bind(model, schedule)
    last = HORIZON - 1
    given = optimizer.given(schedule, last, HORIZON)
    values = optimizer.step_values(given, theta)
    plain = tuple(values.rule[name] for name in NAMES)
    counts = tuple(schedule.counts[name] for name in NAMES)
    Z = 1e-2 * torch.randn(columns, len(theta), device=device, dtype=dtype)
    state = InnerState.start(theta, 1, model.buffers())
    tangents = Tangents.start(theta, 1, columns)
    tangents = tangents._replace(Z=Z, S=(Z,), reached=(True,) * columns)

    def step(strategy: str) -> object:
        options = ForwardOptions(strategy=strategy)
        taken = batch, optimizer, schedule, last, HORIZON, options
        return forward_step(model, state, tangents, *taken)

    def reference() -> object:
        return reference_step(model, theta, state.slots[0], Z, Z, batch, plain, counts, LIMIT)

    def there_and_back() -> object:
        train_step(model, state, batch, optimizer, values, last)
        adjoints = State(Z[:1], (Z[:1],))
        return reverse_step(model, state, batch, optimizer, values, last, adjoints)

    found: dict[str, Callable[[], object]] = {
        "gradient": lambda: gradient(lambda point: model.loss(point, batch), theta),
        "reference": reference,
        "reverse": there_and_back,
        "finite_differences": difference_step(
            model, state, Z, Z, batch, optimizer, given, schedule.counts, DIFFERENCE[dtype]
        ),
    }
    for strategy in STRATEGIES:
        if _fits(model, strategy, batch) and not (strategy == "vmap" and columns > case.batched):
            found[strategy] = lambda strategy=strategy: step(strategy)
            if replay:
                options = ForwardOptions(strategy=strategy)
                found[strategy + REPLAYED] = _replayed(
                    model, state, tangents, batch, optimizer, schedule, options
                )
    return found


def _replayed(
    model: FlatModel,
    state: InnerState,
    tangents: Tangents,
    batch: tuple[torch.Tensor, torch.Tensor],
    optimizer: BoundOptimizer,
    schedule: Schedule,
    options: ForwardOptions,
) -> Callable[[], object]:
    replay = Replay(model, Recorder(state.theta.device, strict=True))
    sums = torch.zeros(2, dtype=torch.float64, device=state.theta.device)
    replay.place(state, sums, optimizer)
    replay.place_tangents(tangents)
    last = HORIZON - 1
    given = optimizer.given(schedule, last, HORIZON)
    rows = active_tangents_at(optimizer, schedule, last, HORIZON, 0.0, tangents.reached)

    def step() -> None:
        replay.forward(batch, given, last, rows, options)

    for _ in range(WARM_UP + 1):
        step()
    return step


def _fits(model: FlatModel, strategy: str, batch: tuple[torch.Tensor, torch.Tensor]) -> bool:
    try:
        check_strategy(model, strategy, batch)
    except ValueError:
        return False
    return True
