"""What is timed: the same inner step, taken in every way that fits the network."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from benchmarks.reference import reference_step
from hypergrad.curvature import STRATEGIES, gradient
from hypergrad.flat import FlatModel
from hypergrad.forward import ForwardOptions, Tangents, forward_step
from hypergrad.models import build
from hypergrad.reverse import reverse_step
from hypergrad.schedule import Schedule
from hypergrad.sgd import InnerState
from hypergrad.strategy import check_strategy
from hypergrad.training import train_step

__all__ = ["SETTINGS", "Setting", "contenders"]

LIMIT, HORIZON = 3.0, 1000


class Setting(NamedTuple):
    """A network of the paper, and its batches.

    Attributes:
        name: Of the network, for `models.build`.
        shape: (channels, height, width) of an image.
        batch_size: Examples.
        batched: Columns beyond which `vmap` is left out: it holds the activations of all of them.
    """

    name: str
    shape: tuple[int, int, int]
    batch_size: int
    batched: int


SETTINGS: Mapping[str, Setting] = {
    "mlp": Setting("mlp", (1, 28, 28), 128, 32),
    "lenet": Setting("lenet", (1, 28, 28), 128, 32),
    "wrn_16_1": Setting("wrn", (3, 32, 32), 256, 4),
}


def contenders(
    setting: Setting, columns: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, Callable[[], object]]:
    """Return what there is to time, by name.

    Args:
        setting: The network and the size of its batches, which are random numbers.
        columns: `N`, tangents, at least 3.
        device: Where to compute.
        dtype: In what.

    Returns:
        `gradient`: the gradient alone, in units of which the others can be seen. `reference` and
        the library's strategies: the inner step with all tangents. `reverse`: the step and the way
        back through it, which does not depend on `N`.
    """
    torch.manual_seed(0)
    module = build(setting.name, setting.shape, 10).to(device, dtype)
    model = FlatModel(module)
    theta = model.theta()
    x = torch.randn(setting.batch_size, *setting.shape, device=device, dtype=dtype)
    batch = x, torch.arange(setting.batch_size, device=device) % 10
    schedule = Schedule((0.01,) * (columns - 2), (0.9,), (1e-3,))
    values = schedule.at(HORIZON - 1, HORIZON)
    Z = 1e-2 * torch.randn(columns, len(theta), device=device, dtype=dtype)
    state = InnerState.start(theta, model.buffers())
    tangents = Tangents.start(theta, columns)._replace(Z=Z, C=Z, reached=(True,) * columns)

    def step(strategy: str) -> object:
        options = ForwardOptions(LIMIT, strategy=strategy)
        return forward_step(model, state, tangents, batch, schedule, HORIZON - 1, HORIZON, options)

    def there_and_back() -> object:
        train_step(model, state, batch, values, LIMIT)
        return reverse_step(model, state, batch, values, Z[:1], Z[:1], LIMIT)

    found: dict[str, Callable[[], object]] = {
        "gradient": lambda: gradient(lambda point: model.loss(point, *batch), theta),
        "reference": lambda: reference_step(model, theta, state.v, Z, Z, batch, values[:3], LIMIT),
        "reverse": there_and_back,
    }
    for strategy in STRATEGIES:
        if _fits(model, strategy, batch) and not (strategy == "vmap" and columns > setting.batched):
            found[strategy] = lambda strategy=strategy: step(strategy)
    return found


def _fits(model: FlatModel, strategy: str, batch: tuple[torch.Tensor, torch.Tensor]) -> bool:
    try:
        check_strategy(model, strategy, batch)
    except ValueError:
        return False
    return True
