"""Reverse-mode hypergradients: one backward pass through the whole inner loop.

It gives the hypergradient of every step's own learning rate, momentum and weight decay at once
(`N = T`, nothing shared), where forward mode would need a tangent for each; their means over
windows are the hypergradients of shared values. With `P = dL_val/dtheta_t` and `Q = dL_val/dv_t`,
both `(K, D)` for `K` chunks of the validation data, from the last step to the first:

    h_alpha_t = -P . v_t
    U   = Q - alpha_t P                               (all that v_t passes on)
    h_beta_t  = U . v_{t-1}         h_mu_t = U . theta_{t-1}
    P  <-  P + mu_t U + H clip'(U)         Q <- beta_t U

`H` is the Hessian of the training loss at `theta_{t-1}` on the step's minibatch, and `clip'` zeroes
the entries where the gradient clip bites. The backward pass needs the states of the forward one:
all of them where memory allows, otherwise every `sqrt(T)`-th, with the steps between taken again
(Griewank's checkpointing with one level: `2 sqrt(T)` states in memory, one more training run).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.schedule import Schedule, StepValues, contributing_steps, windows
from hypergrad.core.sgd import InnerState, clip_gradient, share_above, train_step
from hypergrad.curvature import gradient, gradient_and_multiplier
from hypergrad.differentiation.checkpointing import Trajectory
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics, signal_to_noise
from hypergrad.differentiation.result import Hypergradients, validation_gradient

__all__ = [
    "PerStep",
    "ReverseOptions",
    "backward",
    "check_reversible",
    "gather",
    "hypergradients",
    "reverse_step",
]


@dataclass(frozen=True)
class ReverseOptions:
    """How hypergradients are computed; always exact.

    Attributes:
        clip_gradient: `c_g`, elementwise limit on the training gradient, or None.
        memory_gb: Memory for the states of the inner loop, in units of 1e9 bytes.
        validation_chunks: `K`, into how many chunks the validation data is divided. With 2 or
            more, the signal-to-noise of every hypergradient is known, at a Hessian product a
            chunk and step.
    """

    clip_gradient: float | None = None
    memory_gb: float = 2.0
    validation_chunks: int = 1

    def __post_init__(self) -> None:
        if self.clip_gradient is not None and not self.clip_gradient > 0:
            raise ValueError(
                f"clip_gradient={self.clip_gradient} must be above zero; None switches clipping off"
            )
        if not self.memory_gb > 0:
            raise ValueError(f"memory_gb={self.memory_gb} must be above zero")
        if self.validation_chunks < 1:
            raise ValueError(f"validation_chunks={self.validation_chunks} must be at least 1")


class PerStep(NamedTuple):
    """Hypergradients of the values of every single inner step.

    Attributes:
        values: `(K, T, 3)` float64 on the CPU: of the learning rate, momentum and weight decay of
            each step, for each chunk of the validation data.
        shares: Share of the validation examples in each chunk.
        batches: Validation batches in each chunk.
        clipped_gradients: Share of the entries of the training gradients that `c_g` touched.
    """

    values: Tensor
    shares: tuple[float, ...]
    batches: tuple[int, ...]
    clipped_gradients: float

    @property
    def mean(self) -> Tensor:
        """`(T, 3)` hypergradients of the loss over all validation data."""
        return torch.einsum(
            "k,kts->ts", torch.tensor(self.shares, dtype=torch.float64), self.values
        )


def check_reversible(model: FlatModel) -> None:
    """Refuse a network whose training steps cannot be taken again.

    Args:
        model: The network.

    Raises:
        ValueError: For dropout, which would draw another mask.
    """
    if model.has_dropout:
        raise ValueError(
            "the network has dropout, and reverse mode would draw another mask on the way back: "
            "use forward mode with strategy='loop'"
        )


def hypergradients(
    model: FlatModel,
    theta: Tensor,
    batch_at: Callable[[int], Batch],
    validation: Iterable[Batch],
    schedule: Schedule,
    horizon: int,
    options: ReverseOptions = ReverseOptions(),  # noqa: B008 (frozen)
) -> Hypergradients:
    """Train for `horizon` steps and return the hypergradient of every value of the schedule.

    The same as `forward.hypergradients`, in one backward pass: any number of values costs the same,
    `N = T` included, and memory grows with the horizon.

    Args:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        batch_at: Maps a 0-based inner step to its minibatch, the same one every time.
        validation: Batches of validation data.
        schedule: The values in use.
        horizon: `T`, inner steps.
        options: Clipping and memory.

    Returns:
        Hypergradients, contributing steps, and the final inner state.

    Raises:
        ValueError: If a kind has more values than there are steps, for dropout, or if the memory is
            too small even with checkpoints.
    """
    check_reversible(model)
    contributing_steps(schedule.counts, horizon)
    state = InnerState.start(theta, model.buffers())
    trajectory = Trajectory(horizon, state, options.memory_gb)
    for step in range(horizon):
        trajectory.note(step, state)
        values = schedule.at(step, horizon)
        state, _, _ = train_step(model, state, batch_at(step), values, options.clip_gradient)
    found = backward(
        model, trajectory, state, batch_at, list(validation), schedule, horizon, options
    )
    return gather(found, schedule, state)


def backward(
    model: FlatModel,
    trajectory: Trajectory,
    state: InnerState,
    batch_at: Callable[[int], Batch],
    validation: Sequence[Batch],
    schedule: Schedule,
    horizon: int,
    options: ReverseOptions,
    tick: Callable[[int], None] = lambda steps: None,
) -> PerStep:
    """Go back through an inner loop.

    Args:
        model: The network and its loss.
        trajectory: The states it went through.
        state: Where it ended.
        batch_at: Maps a 0-based inner step to its minibatch.
        validation: Batches of validation data.
        schedule: The values it used.
        horizon: `T`, inner steps.
        options: Clipping and memory.
        tick: Is called with the number of steps gone back, after each.

    Returns:
        The hypergradients of every step's values.

    Raises:
        ValueError: Without validation data, or if the last step, taken again, ends elsewhere.
    """

    def advance(step: int, before: InnerState) -> InnerState:
        values = schedule.at(step, horizon)
        return train_step(model, before, batch_at(step), values, options.clip_gradient)[0]

    if not validation:
        raise ValueError("no validation data: give at least one batch")
    chunks = _chunks(validation, options.validation_chunks)
    counts = [sum(len(y) for _, y in chunk) for chunk in chunks]
    P = torch.stack([validation_gradient(model, state.theta, c, state.buffers) for c in chunks])
    Q = torch.zeros_like(P)
    # While every learning rate is zero the weights stand still: nothing depends on the Hessian.
    curved = any(schedule.learning_rate)
    found = P.new_zeros(len(chunks), horizon, 3)
    clipped = P.new_zeros((), dtype=torch.float64)
    for start in reversed(trajectory.starts):
        for step, before in reversed(trajectory.states(start, advance)):
            if step == horizon - 1:
                _check_repeatable(advance(step, before.copied()), state)
            values = schedule.at(step, horizon)
            P, Q, found[:, step], share = reverse_step(
                model, before, batch_at(step), values, P, Q, options.clip_gradient, curved=curved
            )
            clipped += share
            tick(horizon - step)
    shares = tuple(count / sum(counts) for count in counts)
    batches = tuple(len(chunk) for chunk in chunks)
    return PerStep(found.double().cpu(), shares, batches, clipped.item() / horizon)


def reverse_step(
    model: FlatModel,
    before: InnerState,
    batch: Batch,
    values: StepValues,
    P: Tensor,
    Q: Tensor,
    limit: float | None,
    *,
    curved: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Go back through one inner step.

    Args:
        model: The network and its loss.
        before: `theta_{t-1}`, `v_{t-1}`, and the buffers then.
        batch: The step's minibatch.
        values: `alpha_t`, `beta_t`, `mu_t`.
        P: `(K, D)` derivatives of the validation losses with respect to `theta_t`.
        Q: `(K, D)` likewise, to `v_t`.
        limit: `c_g`, or None.
        curved: Whether a Hessian product is needed at all.

    Returns:
        `P` and `Q` for the step before; `(K, 3)` hypergradients of alpha, beta and mu of this step;
        share of the gradient's entries that the clip touched (scalar).
    """

    def loss(theta: Tensor) -> Tensor:
        return model.loss(theta, *batch, before.buffers)

    multiply = torch.zeros_like
    if curved:
        g, multiply = gradient_and_multiplier(loss, before.theta)
    else:
        g = gradient(loss, before.theta)
    share = share_above(g, limit)
    g, passes = clip_gradient(g, limit)
    v = values.beta * before.v + g + values.mu * before.theta
    U = Q - values.alpha * P
    h = torch.stack([-(P @ v), U @ before.v, U @ before.theta], dim=1)
    P = P + values.mu * U + multiply(U if passes is None else torch.where(passes, U, 0.0))
    return P, values.beta * U, h, share


def gather(found: PerStep, schedule: Schedule, state: InnerState) -> Hypergradients:
    """Return the hypergradient of every value of a schedule, from those of every step.

    Args:
        found: As `backward` returns it.
        schedule: Only its counts matter.
        state: Where the inner loop ended.

    Returns:
        Means over the windows of the values.
    """
    horizon = found.values.shape[1]
    # On the way back: what is lost at one step is lost at all the steps before it.
    all_lost = (~found.values.isfinite()).any(dim=2).any(dim=0).nonzero().flatten()
    began = int(all_lost[-1]) if len(all_lost) else None
    sums, steps, bad = [], [], []
    for kind, count in enumerate(schedule.counts):
        for window in windows(count, horizon):
            within = found.values[:, window.start : window.stop, kind]
            sums.append(within.sum(dim=1))
            steps.append(window.stop - window.start)
            lost = int((~within.isfinite()).any(dim=0).sum())
            bad.append((lost, began if lost else None))
    samples = torch.stack(sums, dim=1) / torch.tensor(steps, dtype=torch.float64)
    shares = torch.tensor(found.shares, dtype=torch.float64)
    ratios = signal_to_noise(samples, found.batches)
    diagnostics = tuple(
        HypergradientDiagnostics(ratio, found.clipped_gradients, None, *lost)
        for ratio, lost in zip(ratios, bad, strict=True)
    )
    return Hypergradients(tuple((shares @ samples).tolist()), tuple(steps), state, diagnostics)


def _check_repeatable(again: InnerState, state: InnerState) -> None:
    """Refuse a training step with randomness of its own: what goes back is not what went there."""
    for name in ("theta", "v"):
        first, second = getattr(state, name), getattr(again, name)
        difference = torch.linalg.vector_norm(second - first)
        # Far above what rounding on any device makes of one step, far below what dropout does.
        if difference > 1e-3 * torch.linalg.vector_norm(first):
            raise ValueError(
                "a training step taken again ends elsewhere, so the network draws random numbers "
                "(dropout?): use forward mode with strategy='loop'"
            )


def _chunks(validation: Sequence[Batch], count: int) -> list[Sequence[Batch]]:
    """Divide batches into `count` runs of (nearly) equal length; fewer if there are fewer."""
    count = min(count, len(validation))
    edges = [round(i * len(validation) / count) for i in range(count + 1)]
    return [validation[a:b] for a, b in zip(edges, edges[1:], strict=False)]
