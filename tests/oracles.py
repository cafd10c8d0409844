"""Slow, obviously correct versions of what the library computes quickly."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import jacrev

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.rules.sgd import NAMES
from hypergrad.core.schedule import Schedule

Batch = tuple[Tensor, Tensor]


def unrolled_loss(
    model: FlatModel,
    theta: Tensor,
    batch_at: Callable[[int], Batch],
    validation: Sequence[Batch],
    values: Sequence[Tensor],
    horizon: int,
    clip: float | None = None,
) -> Tensor:
    """L_val(theta_T) as one differentiable expression of (alphas, betas, mus)."""
    alphas, betas, mus = values
    theta = theta.clone().requires_grad_()
    v = torch.zeros_like(theta)
    for t in range(horizon):
        x, y = batch_at(t)
        (g,) = torch.autograd.grad(model.loss(theta, (x, y)), theta, create_graph=True)
        if clip is not None:
            g = torch.clamp(g, -clip, clip)
        alpha, beta, mu = (kind[len(kind) * t // horizon] for kind in (alphas, betas, mus))
        v = beta * v + g + mu * theta
        theta = theta - alpha * v
    count = sum(len(y) for _, y in validation)
    return sum(len(y) / count * model.loss(theta, (x, y)) for x, y in validation)


def reverse_mode(
    model: FlatModel,
    theta: Tensor,
    batch_at: Callable[[int], Batch],
    validation: Sequence[Batch],
    schedule: Schedule,
    horizon: int,
    clip: float | None = None,
) -> Tensor:
    """Summed (not averaged) hypergradients by autograd through the whole unrolled loop."""
    values = [
        torch.tensor(kind, dtype=theta.dtype, requires_grad=True) for kind in schedule.values()
    ]
    loss = unrolled_loss(model, theta, batch_at, validation, values, horizon, clip)
    return torch.cat(torch.autograd.grad(loss, values))


def appendix_recursion(
    model: FlatModel,
    theta: Tensor,
    batch_at: Callable[[int], Batch],
    validation_gradient: Callable[[Tensor], Tensor],
    schedule: Schedule,
    horizon: int,
    *,
    misprint: bool = False,
    clip_products: float | None = None,
    truncation: float = 0.0,
) -> Tensor:
    """Summed hypergradients by A_t, B_t and C_t of Appendix A, each a dense matrix, kind by kind.

    With `misprint`, C_t^beta takes v_t as printed; otherwise v_{t-1}.
    """
    D = theta.numel()
    counts = [schedule.counts[name] for name in NAMES]
    Z = [theta.new_zeros(D, n) for n in counts]
    C = [theta.new_zeros(D, n) for n in counts]
    v = torch.zeros_like(theta)
    eye = torch.eye(D, dtype=theta.dtype)
    for t in range(horizon):
        x, y = batch_at(t)
        values = schedule.at(t, horizon)
        alpha, beta, mu = (values[name] for name in NAMES)
        H = jacrev(jacrev(lambda w, x=x, y=y: model.loss(w, (x, y))))(theta)
        point = theta.clone().requires_grad_()
        (g,) = torch.autograd.grad(model.loss(point, (x, y)), point)
        v_before, theta_before = v, theta
        v = beta * v + g + mu * theta
        theta = theta - alpha * v
        for kind in range(3):
            n = counts[kind]
            index = n * t // horizon
            window = [s for s in range(horizon) if n * s // horizon == index]
            if t < window[0] + int(truncation * len(window)):
                continue
            delta = theta.new_zeros(n)
            delta[index] = 1.0
            HZ = H @ Z[kind]
            if clip_products is not None:
                HZ = HZ.clamp(-clip_products, clip_products)
            A_Z = Z[kind] - alpha * (HZ + mu * Z[kind])
            B = -beta * alpha * C[kind]
            C_next = beta * C[kind] + HZ + mu * (eye @ Z[kind])
            if kind == 0:
                B = B - torch.outer(v, delta)
            elif kind == 1:
                B = B - alpha * torch.outer(v_before, delta)
                C_next = C_next + torch.outer(v if misprint else v_before, delta)
            else:
                B = B - alpha * torch.outer(theta_before, delta)
                C_next = C_next + torch.outer(theta_before, delta)
            Z[kind], C[kind] = A_Z + B, C_next
    return torch.cat([validation_gradient(theta) @ z for z in Z])


def torch_training_loop(
    model: FlatModel,
    theta: Tensor,
    buffers: dict[str, Tensor],
    batches: Sequence[Batch],
    schedule: Schedule,
    clip: float | None = None,
) -> torch.nn.Module:
    """An ordinary PyTorch loop: module, `torch.optim.SGD`, `clip_grad_value_`."""
    module = model.module
    model.load(theta, buffers)
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for step, (x, y) in enumerate(batches):
        optimizer.zero_grad()
        model.objective.loss(module, (x, y), {})[0].backward()
        if clip is not None:
            torch.nn.utils.clip_grad_value_(module.parameters(), clip)
        schedule.apply(optimizer, step, len(batches))
        optimizer.step()
    return module.eval()


__all__ = [
    "appendix_recursion",
    "reverse_mode",
    "torch_training_loop",
    "unrolled_loss",
]
