"""The configured mode against autograd through the whole unrolled loop, on real data."""

from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.schedule import Schedule
from hypergrad.data import Dataset, Minibatches, in_batches
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.drivers.context import computing
from hypergrad.drivers.inner_optimizer import inner_optimizer, learned_at

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
    method, optimizer = config.method, inner_optimizer(config)
    schedule = _middling(config, steps)
    size = min(BATCH, len(data.train))
    minibatches = Minibatches(data.train, size, (config.seed, "check"))
    validation = list(in_batches(data.test.take(torch.arange(min(200, len(data.test)))), 100))
    given = model, model.theta(), minibatches.at, validation, schedule, steps
    if method.mode == "reverse":
        options = reverse.ReverseOptions(memory_gb=config.reverse.memory_gb)
        found = reverse.hypergradients(*given, options, optimizer=optimizer)
    else:
        options = ForwardOptions(strategy=config.hvp_strategy)
        found = forward.hypergradients(*given, options, optimizer=optimizer)
    ours = [h * n for h, n in zip(found.values, found.contributing, strict=True)]
    unrolled = _unrolled(model, minibatches, validation, schedule, steps, optimizer)
    rows = []
    for (kind, index, _), own, theirs in zip(schedule.columns(), ours, unrolled, strict=True):
        scale = max(abs(theirs), 1e-300)
        rows.append(Comparison(f"{kind}[{index}]", own, theirs, abs(own - theirs) / scale))
    return rows


def _middling(config: RunConfig, steps: int) -> Schedule:
    """Values in the middle of where training goes: not zero, where most derivatives are."""
    middle = {"learning_rate": 0.05, "momentum": 0.5, "weight_decay": 1e-3}
    values, bases = {}, {}
    for each in learned_at(config, steps):
        own = each.coefficients
        if not any(own):
            own = (middle.get(each.target, 0.1),) * len(own)
        if config.is_plain_sgd and each.target == "learning_rate":
            own = tuple(own[0] / (i * 5 // len(own) + 1) for i in range(len(own)))
        values[each.name], bases[each.name] = own, each.over
    return Schedule(values, bases)


def _unrolled(
    model: FlatModel,
    minibatches: Minibatches,
    validation: list[tuple[Tensor, Tensor]],
    schedule: Schedule,
    steps: int,
    optimizer: InnerOptimizer,
) -> list[float]:
    """Hypergradients by autograd through the update itself, step after step."""
    bound = optimizer.bind(model, schedule)
    theta = model.theta().requires_grad_()
    flat = theta.new_tensor(schedule.flat).requires_grad_()
    slots = tuple(torch.zeros_like(theta) for _ in bound.rule.slots)
    for step in range(steps):
        given = {**bound.given(schedule, step, steps), **_values_at(schedule, flat, step, steps)}
        values = bound.step_values(given, theta)
        loss = model.loss(theta, minibatches.at(step), None, bound.named(values.loss))
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta, slots = bound.rule.update(bound.transform(g), theta, slots, values.rule, step)
    count = sum(len(y) for _, y in validation)
    losses = [len(b[1]) / count * model.validation_loss(theta, b) for b in validation]
    return torch.autograd.grad(torch.stack(losses).sum(), flat)[0].tolist()


def _values_at(schedule: Schedule, flat: Tensor, step: int, steps: int) -> dict[str, Tensor]:
    """The values of a step as functions of all coefficients."""
    found, start = {}, 0
    for name, own in schedule.items():
        basis, size = schedule.bases[name], schedule.bases[name].size
        table = flat[start : start + len(own)].reshape(basis.count, size)
        value = sum(weight * table[i] for i, weight in basis.weights(step, steps))
        assert isinstance(value, Tensor)
        found[name] = value if size > 1 else value[0]
        start += len(own)
    return found
