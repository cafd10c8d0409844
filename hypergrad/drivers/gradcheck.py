"""The configured mode against autograd through the whole unrolled loop, on real data."""

from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.schedule import Schedule
from hypergrad.data import Dataset, Minibatches, in_batches
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.drivers.context import computing

__all__ = ["TOLERANCE", "Comparison", "compare"]

TOLERANCE = 1e-9  # float64; a missing term shows at 1e-2
BATCH = 16  # reverse mode keeps every step's graph: small batches keep that small


class Comparison(NamedTuple):
    """One hyperparameter's hypergradient, computed twice.

    Attributes:
        name: Kind and index.
        ours: By the configured mode, summed over its window.
        autograd: Through the unrolled loop.
        error: Their difference relative to autograd's.
    """

    name: str
    ours: float
    autograd: float
    error: float


def compare(config: RunConfig, model: FlatModel, data: Dataset, steps: int) -> list[Comparison]:
    """Compute the hypergradients of a middling schedule both ways.

    Args:
        config: Method, numbers of values, gradient clip, and curvature strategy.
        model: The network, in float64.
        data: The images, in float64.
        steps: Inner steps, at least the number of values of any kind.

    Returns:
        One comparison a value.

    Raises:
        ValueError: If a kind has more values than there are steps.
    """
    with computing(config):
        return _compared(config, model, data, steps)


def _compared(config: RunConfig, model: FlatModel, data: Dataset, steps: int) -> list[Comparison]:
    method = config.method
    counts = method.counts(steps)
    schedule = Schedule(
        tuple(0.05 / (index * 5 // counts[0] + 1) for index in range(counts[0])),
        (0.5,) * counts[1],
        (1e-3,) * counts[2],
    )
    size = min(BATCH, len(data.train))
    minibatches = Minibatches(data.train, size, (config.seed, "check"))
    validation = list(in_batches(data.test.take(torch.arange(min(200, len(data.test)))), 100))
    given = model, model.theta(), minibatches.at, validation, schedule, steps
    if method.mode == "reverse":
        budget = config.reverse.memory_gb
        found = reverse.hypergradients(*given, reverse.ReverseOptions(method.clip_gradient, budget))
    else:
        options = ForwardOptions(method.clip_gradient, strategy=config.hvp_strategy)
        found = forward.hypergradients(*given, options)
    ours = [h * n for h, n in zip(found.values, found.contributing, strict=True)]
    unrolled = _unrolled(model, minibatches, validation, schedule, steps, method.clip_gradient)
    rows = []
    for (kind, index, _), own, theirs in zip(schedule.columns(), ours, unrolled, strict=True):
        scale = max(abs(theirs), 1e-300)
        rows.append(Comparison(f"{kind}[{index}]", own, theirs, abs(own - theirs) / scale))
    return rows


def _unrolled(
    model: FlatModel,
    minibatches: Minibatches,
    validation: list[tuple[Tensor, Tensor]],
    schedule: Schedule,
    steps: int,
    clip: float | None,
) -> list[float]:
    theta = model.theta().requires_grad_()
    values = theta.new_tensor(schedule.flat).requires_grad_()
    alphas, betas, mus = values.split(schedule.counts)
    v = torch.zeros_like(theta)
    for step in range(steps):
        a, b, m = schedule.at(step, steps).indices
        loss = model.loss(theta, *minibatches.at(step))
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)
        if clip is not None:
            g = g.clamp(-clip, clip)
        beta = betas[b] if len(betas) else 0.0  # a kind without values is zero
        mu = mus[m] if len(mus) else 0.0
        v = beta * v + g + mu * theta
        theta = theta - alphas[a] * v
    count = sum(len(y) for _, y in validation)
    loss = torch.stack([len(y) / count * model.loss(theta, x, y) for x, y in validation]).sum()
    return torch.autograd.grad(loss, values)[0].tolist()
