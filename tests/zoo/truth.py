"""What the library must find: differences of an ordinary training loop with the plain module.

No functional call, no product, nothing of the library. The final validation loss is that of
`module.eval()`, but for layers of batch normalisation that the user left in training mode: they
take the statistics of the batch, and update none.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from zoo.network import Batch, Network

HORIZON = 4
SEED = 7  # of the random numbers that a training draws
BATCH, HELD_OUT = 6, (5, 8)
SCHEDULE: Mapping[str, tuple[float, ...]] = {
    "learning_rate": (0.3, 0.2),
    "momentum": (0.5, 0.7),
    "weight_decay": (0.02,),
}
# Of the same order as the value. In float64 the second-order error of the wider one is about
# 1e-7, and that of rounding 1e-12: the two together know the derivative to better than 1e-8.
STEP = 1e-3


class Trained(NamedTuple):
    """A training: its final validation loss, and the `(D,)` trainable parameters."""

    loss: float
    weights: Tensor


class Truth(NamedTuple):
    """Derivatives of the final validation loss.

    Attributes:
        hypergradients: `(N,)`, in the order of the schedule.
        error: `(N,)`, how far they are known: what the narrower difference and the extrapolated
            one differ by.
        weights: `(D,)` where the training ends.
    """

    hypergradients: Tensor
    error: Tensor
    weights: Tensor


def of_type(batch: Batch, dtype: torch.dtype) -> Batch:
    """A copy of a batch, its floats in another type."""
    if isinstance(batch, dict):
        return {name: of_type(entry, dtype) for name, entry in batch.items()}
    if isinstance(batch, tuple):
        return tuple(of_type(entry, dtype) for entry in batch)
    return batch.to(dtype, copy=True) if batch.is_floating_point() else batch.clone()


def batch_at(network: Network, step: int, dtype: torch.dtype) -> Batch:
    return of_type(network.batches(step, BATCH), network.own_type or dtype)


def held_out(network: Network, dtype: torch.dtype) -> list[Batch]:
    """Two batches of different size: the mean over examples matters."""
    own = network.own_type or dtype
    return [of_type(network.batches(50 + i, size), own) for i, size in enumerate(HELD_OUT)]


@contextmanager
def its_warnings(network: Network) -> Iterator[None]:
    """Lets the network's own warnings pass."""
    with warnings.catch_warnings():
        for message in network.warns:
            warnings.filterwarnings("ignore", message=message)
        yield


def train(network: Network, coefficients: Tensor, dtype: torch.dtype = torch.float64) -> Trained:
    """Train the plain module by `torch.optim`, and judge it.

    Args:
        network: From the zoo.
        coefficients: `(N,)`, the values of the schedule.
        dtype: Of the module and its data.
    """
    sizes = [len(values) for values in SCHEDULE.values()]
    names = {"learning_rate": "lr", "momentum": "momentum", "weight_decay": "weight_decay"}
    values = dict(zip(SCHEDULE, (v.tolist() for v in coefficients.split(sizes)), strict=True))
    module = network.build(dtype)
    loss_of = network.loss(module)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad])
    torch.manual_seed(SEED)
    for step in range(HORIZON):
        for name, own in values.items():
            optimizer.param_groups[0][names[name]] = own[step * len(own) // HORIZON]
        optimizer.zero_grad()
        result = loss_of(module, batch_at(network, step, dtype), {})
        loss = result[0] if isinstance(result, tuple) else result
        loss.backward()
        optimizer.step()
    weights = [p.detach().reshape(-1) for p in module.parameters() if p.requires_grad]
    for layer in module.modules():
        if isinstance(layer, _BatchNorm) and layer.training:
            layer.track_running_stats = False
            layer.register_forward_pre_hook(_in_training)
    module.eval()
    total = 0.0
    with torch.no_grad():
        for size, batch in zip(HELD_OUT, held_out(network, dtype), strict=True):
            result = loss_of(module, batch, {})
            total += size * float(result[0] if isinstance(result, tuple) else result)
    return Trained(total / sum(HELD_OUT), torch.cat(weights))


def _in_training(layer: nn.Module, _: object) -> None:
    layer.training = True


@cache
def truth(network: Network) -> Truth:
    """Return the hypergradients of a network in float64, by central differences of two widths.

    Raises:
        AssertionError: If they are not known to a ten-thousandth: then nothing is tested.
    """
    middle = torch.tensor([v for own in SCHEDULE.values() for v in own], dtype=torch.float64)
    with its_warnings(network):
        weights = train(network, middle).weights
        wide, narrow = (
            middle.new_tensor([_difference(network, middle, i, width) for i in range(len(middle))])
            for width in (STEP, STEP / 2)
        )
    found = (4 * narrow - wide) / 3
    error = (narrow - found).abs()
    assert found.isfinite().all(), found
    assert error.max() <= 1e-4 * found.abs().max(), f"{network.name}: {wide} and {narrow}"
    return Truth(found, error, weights)


def _difference(network: Network, middle: Tensor, index: int, width: float) -> float:
    moved = torch.zeros_like(middle)
    moved[index] = width * max(0.1, float(middle[index]))
    above, below = train(network, middle + moved), train(network, middle - moved)
    return (above.loss - below.loss) / (2 * float(moved[index]))
