"""Other libraries that differentiate through training: TorchOpt and higher, where installed.

Both keep the graph of the whole training and call autograd once. Each is used as its documentation
shows, with learning rates that need a gradient.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PEERS", "absence"]

Batch = tuple[Tensor, Tensor]


def absence(name: str) -> str | None:
    """Say why a contender cannot be had; None if it can, and for all that are no peers."""
    if name not in PEERS:
        return None
    try:
        importlib.import_module(name)
    except ImportError as error:
        return f"{name} is not installed ({error}): pip install -e '.[peers]'"
    return None


def by_torchopt(
    net: nn.Module,
    rates: Tensor,
    windows: Sequence[int],
    momentum: float,
    batches: Sequence[Batch],
    validation: Batch,
) -> Tensor:
    """Differentiate a training through TorchOpt's SGD.

    Args:
        net: The network; its weights are replaced.
        rates: `(N,)` learning rates that need a gradient.
        windows: Which of them each step uses.
        momentum: Constant.
        batches: The minibatch of each step.
        validation: What the final loss is of.

    Returns:
        `(N,)` derivatives of the final loss.
    """
    torchopt = importlib.import_module("torchopt")
    used = rates[windows[0]]
    # A fresh look at each step: TorchOpt asks its schedule for a learning rate by a count.
    optimizer = torchopt.MetaSGD(net, lr=lambda _: used, momentum=momentum)
    for window, (x, y) in zip(windows, batches, strict=True):
        used = rates[window]
        optimizer.step(F.cross_entropy(net(x), y))
    x, y = validation
    return torch.autograd.grad(F.cross_entropy(net(x), y), rates)[0]


def by_higher(
    net: nn.Module,
    rates: Tensor,
    windows: Sequence[int],
    momentum: float,
    batches: Sequence[Batch],
    validation: Batch,
) -> Tensor:
    """Differentiate a training through higher's SGD; arguments and result as of `by_torchopt`."""
    higher = importlib.import_module("higher")
    own = torch.optim.SGD(net.parameters(), lr=0.1, momentum=momentum)  # the rate is overridden
    with higher.innerloop_ctx(net, own) as (functional, optimizer):
        for window, (x, y) in zip(windows, batches, strict=True):
            loss = F.cross_entropy(functional(x), y)
            optimizer.step(loss, override={"lr": [rates[window]]})
        x, y = validation
        return torch.autograd.grad(F.cross_entropy(functional(x), y), rates)[0]


PEERS: Mapping[str, Callable[..., Tensor]] = {"torchopt": by_torchopt, "higher": by_higher}
