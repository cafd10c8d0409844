"""An ordinary training loop that autograd goes back through: the slow oracle of hypergradients.

It shares nothing with what it checks but the network and the loss that the test gives to both. The
parameters are a dictionary of tensors; the optimisers are written as the documentation of
`torch.optim` states them; a hyperparameter is `sum_i B_i(t) lambda_i` with `B_i` from its formula.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

Tensors = dict[str, Tensor]
Weight = Callable[[int, int, int], float]  # (function i, step t, horizon T) -> B_i(t)
Module = Callable[..., Tensor]
Loss = Callable[[Module, object, Tensors], Tensor]
Values = Callable[[str], Tensor]  # the value in use, by its name
# (gradient, parameter, what the optimiser keeps of it, values, 0-based step) -> parameter and kept
Update = Callable[[Tensor, Tensor, Tensors, Values, int], tuple[Tensor, Tensors]]


# Bases


def windows(count: int) -> Weight:
    """Value `floor(n t / T)` is in use."""
    return lambda i, t, T: float(count * t // T == i)


def hats(count: int) -> Weight:
    """Piecewise linear, with knots at steps `round(i (T - 1) / (n - 1))`."""

    def weight(i: int, t: int, T: int) -> float:
        if count == 1:
            return 1.0
        knots = [round(k * (T - 1) / (count - 1)) for k in range(count)]
        if t < knots[i]:
            return max(0.0, (t - knots[i - 1]) / (knots[i] - knots[i - 1])) if i else 0.0
        if t > knots[i]:
            return max(0.0, (knots[i + 1] - t) / (knots[i + 1] - knots[i]))
        return 1.0

    return weight


def cosine(count: int) -> Weight:
    """`cos(pi i (t + 1/2) / T)`."""
    assert count >= 1
    return lambda i, t, T: math.cos(math.pi * i * (t + 0.5) / T)


def warm_up(share: float, weight: Weight) -> Weight:
    """`weight`, rising linearly over the first `round(share T)` steps."""

    def risen(i: int, t: int, T: int) -> float:
        first = round(share * T)
        return weight(i, t, T) * ((t + 1) / first if t < first else 1.0)

    return risen


# Optimisers, as torch.optim documents them


def root(x: Tensor) -> Tensor:
    """Square root whose derivative at 0 is 0."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def sgd(nesterov: bool = False, dampening: float = 0.0) -> Update:
    def update(g: Tensor, p: Tensor, kept: Tensors, value: Values, t: int) -> tuple:
        g = g + value("weight_decay") * p
        b = g
        if t > 0:  # the first step is not dampened
            b = value("momentum") * kept["b"] + (1 - dampening) * g
        g = g + value("momentum") * b if nesterov else b
        return p - value("learning_rate") * g, {"b": b}

    return update


def adam(decoupled: bool = False) -> Update:
    def update(g: Tensor, p: Tensor, kept: Tensors, value: Values, t: int) -> tuple:
        if decoupled:
            p = p - value("learning_rate") * value("weight_decay") * p
        else:
            g = g + value("weight_decay") * p
        b1, b2 = value("beta1"), value("beta2")
        m = b1 * kept.get("m", torch.zeros_like(p)) + (1 - b1) * g
        v = b2 * kept.get("v", torch.zeros_like(p)) + (1 - b2) * g * g
        m_hat, v_hat = m / (1 - b1 ** (t + 1)), v / (1 - b2 ** (t + 1))
        p = p - value("learning_rate") * m_hat / (root(v_hat) + value("epsilon"))
        return p, {"m": m, "v": v}

    return update


def adamw() -> Update:
    return adam(decoupled=True)


def rmsprop(centered: bool = False) -> Update:
    def update(g: Tensor, p: Tensor, kept: Tensors, value: Values, t: int) -> tuple:
        zero = torch.zeros_like(p)
        g = g + value("weight_decay") * p
        a = value("smoothing")
        v = a * kept.get("v", zero) + (1 - a) * g * g
        mean = a * kept.get("mean", zero) + (1 - a) * g
        spread = v - mean * mean if centered else v
        b = value("momentum") * kept.get("b", zero) + g / (root(spread) + value("epsilon"))
        return p - value("learning_rate") * b, {"v": v, "mean": mean, "b": b}

    return update


# Gradient clipping: (gradients by name) -> (clipped, share of the entries that are no longer free)


def no_clip(gradients: Tensors) -> tuple[Tensors, float]:
    return gradients, 0.0


def elementwise_clip(limit: float) -> Callable[[Tensors], tuple[Tensors, float]]:
    def clip(gradients: Tensors) -> tuple[Tensors, float]:
        flat = torch.cat([g.detach().flatten() for g in gradients.values()])
        clipped = {name: g.clamp(-limit, limit) for name, g in gradients.items()}
        return clipped, float((flat.abs() > limit).double().mean())

    return clip


def norm_clip(limit: float) -> Callable[[Tensors], tuple[Tensors, float]]:
    def clip(gradients: Tensors) -> tuple[Tensors, float]:
        norm = root(sum((g * g).sum() for g in gradients.values()))
        coefficient = limit / (norm + 1e-6)
        if coefficient >= 1:
            return gradients, 0.0
        return {name: coefficient * g for name, g in gradients.items()}, 1.0

    return clip


# The loop


class Coefficients(NamedTuple):
    """`lambda` of one hyperparameter; entry `i * size + j` belongs to function `i`, component `j`.

    Attributes:
        start: Their values.
        weight: The basis.
        sets: The value of the optimiser or of the loss that they set.
        where: The parameters they are for, by name; None: all.
        size: Components of a value, for the loss.
    """

    start: tuple[float, ...]
    weight: Weight
    sets: str
    where: Callable[[str], bool] | None = None
    size: int = 1


class Unrolled(NamedTuple):
    """Where a training run ended, and what its hyperparameters did to the validation loss."""

    loss: float
    hypergradients: Tensors  # by the name of the hyperparameter, one entry a coefficient
    parameters: Tensors
    clipped: tuple[float, ...]  # of each step


def unrolled(
    module: nn.Module,
    loss: Loss,
    validation_loss: Loss,
    batch_at: Callable[[int], object | list],
    validation: Sequence[tuple[Tensor, Tensor]],
    update: Update,
    coefficients: Mapping[str, Coefficients],
    horizon: int,
    *,
    defaults: Mapping[str, float],
    clip: Callable[[Tensors], tuple[Tensors, float]] = no_clip,
) -> Unrolled:
    """Train, and differentiate the validation loss at the end by every coefficient.

    A list in the place of a batch is one of micro-batches: their gradients are averaged. `defaults`
    holds the values of the optimiser for parameters whose value no coefficients set.
    """
    net = copy.deepcopy(module).double()
    parameters = {n: p.detach().clone().requires_grad_() for n, p in net.named_parameters()}
    kept: dict[str, Tensors] = {name: {} for name in parameters}
    flat = {
        name: torch.tensor(given.start, dtype=torch.float64, requires_grad=True)
        for name, given in coefficients.items()
    }
    clipped = []

    def bound(state: Tensors) -> Module:
        return lambda *inputs, **named: functional_call(net, state, inputs, named)

    for t in range(horizon):
        values = {}
        for name, given in coefficients.items():
            rows = flat[name].reshape(-1, given.size)
            value = sum(given.weight(i, t, horizon) * row for i, row in enumerate(rows))
            values[name] = value[0] if given.size == 1 else value
        of_the_loss = {
            given.sets: values[name]
            for name, given in coefficients.items()
            if given.sets not in defaults
        }
        batch = batch_at(t)
        parts = batch if isinstance(batch, list) else [batch]
        training = sum(loss(bound(parameters), part, of_the_loss) for part in parts) / len(parts)
        found = torch.autograd.grad(training, list(parameters.values()), create_graph=True)
        gradients, share = clip(dict(zip(parameters, found, strict=True)))
        clipped.append(share)
        for name, p in parameters.items():

            def value(wanted: str, name: str = name, values: Tensors = values) -> Tensor:
                for own, given in coefficients.items():
                    if given.sets == wanted and (given.where is None or given.where(name)):
                        return values[own]
                return torch.tensor(defaults[wanted], dtype=torch.float64)

            parameters[name], kept[name] = update(gradients[name], p, kept[name], value, t)

    count = sum(len(batch[0]) for batch in validation)
    final = sum(
        len(batch[0]) / count * validation_loss(bound(parameters), batch, {})
        for batch in validation
    )
    hypergradients = torch.autograd.grad(final, list(flat.values()))
    return Unrolled(
        float(final.detach()),
        dict(zip(flat, hypergradients, strict=True)),
        {name: p.detach() for name, p in parameters.items()},
        tuple(clipped),
    )


__all__ = [
    "Coefficients",
    "Unrolled",
    "adam",
    "adamw",
    "cosine",
    "elementwise_clip",
    "hats",
    "no_clip",
    "norm_clip",
    "rmsprop",
    "sgd",
    "unrolled",
    "warm_up",
    "windows",
]
