"""Forward-mode hypergradients: tangents of the weights carried along the whole inner loop.

Notation (Appendix A, stacked over all `N = N_alpha + N_beta + N_mu` values; one row of `Z` and `C`
a value, so both are `(N, D)`):

    Z_t = d theta_t / d lambda        C_t = d v_t / d lambda        Z_0 = C_0 = 0

    C_t = beta_t C_{t-1} + mu_t Z_{t-1} + clip(H Z_{t-1}, ±c_HZ) + v_{t-1} e_beta + theta_{t-1} e_mu
    Z_t = Z_{t-1} - alpha_t C_t - v_t e_alpha
    h   = (d L_val / d theta_T) Z_T, divided by the number of steps that contributed

`H` is the Hessian of the training loss on the step's minibatch, with zero rows where the gradient
clip bites, and `e_alpha`, `e_beta`, `e_mu` select the value in use at step `t`. The appendix prints
`v_t` in place of `v_{t-1}` in `C_t^beta`; that is a misprint: `d v_t / d beta_t = v_{t-1}`.
Memory does not depend on the horizon.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.curvature import STRATEGIES, gradient, gradient_and_products
from hypergrad.flat import FlatModel
from hypergrad.hypergradient import Hypergradients, contributing_steps, validation_gradients
from hypergrad.inexact import PRECISIONS, check_inexact, inexact_products, is_exact, reduced
from hypergrad.ranks import ALONE, Ranks
from hypergrad.rows import Rows, rows_at, spans
from hypergrad.schedule import Schedule
from hypergrad.sgd import InnerState, Rates, clip_gradient, sgd_step, share_above
from hypergrad.strategy import check_strategy, choose_strategy
from hypergrad.tally import Tally

__all__ = [
    "ForwardOptions",
    "Tangents",
    "advance",
    "forward_step",
    "hypergradients",
    "project",
    "settle",
]

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ForwardOptions:
    """How hypergradients are computed; the defaults are exact.

    Attributes:
        clip_gradient: `c_g`, elementwise limit on the training gradient, or None.
        clip_products: `c_HZ`, elementwise limit on the Hessian products, or None.
        truncation: `tau` in [0, 1): the first `floor(tau n)` of a window's `n` steps leave the
            tangents of its kind untouched and do not count in the average.
        strategy: How Hessian products are computed: see `curvature`. `auto` takes the fastest of
            those that fit the network, by a short trial; all are exact, but the last bits differ.
        batch_fraction: Share of a minibatch, in (0, 1], whose Hessian products stand for those of
            the whole: its first examples, so minibatches must be in random order. 1 is exact.
        precision: `tf32` (CUDA) or `bfloat16`: Hessian products, and nothing else, in that
            precision. None is that of the parameters.
    """

    clip_gradient: float | None = None
    clip_products: float | None = None
    truncation: float = 0.0
    strategy: str = "loop"
    batch_fraction: float = 1.0
    precision: str | None = None

    def __post_init__(self) -> None:
        for name in ("clip_gradient", "clip_products"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ValueError(f"{name}={limit} must be above zero; None switches clipping off")
        if not 0 <= self.truncation < 1:
            raise ValueError(f"truncation={self.truncation} must be in [0, 1); 0 is exact")
        known = ("auto", *STRATEGIES)
        if self.strategy not in known:
            raise ValueError(f"unknown strategy {self.strategy!r}: use one of {known}")
        if not 0 < self.batch_fraction <= 1:
            raise ValueError(f"batch_fraction={self.batch_fraction} must be in (0, 1]; 1 is exact")
        if self.precision not in (None, *PRECISIONS):
            raise ValueError(
                f"unknown precision {self.precision!r}: use one of {PRECISIONS}, or None"
            )


class Tangents(NamedTuple):
    """Derivatives of the inner state with respect to every value of the schedule.

    Where several ranks carry them, `N` is the number of those in this rank's share.

    Attributes:
        Z: `(N, D)` derivatives of theta.
        C: `(N, D)` derivatives of v.
        reached: For each row, whether Z can differ from zero: only these need a product.
        tally: What has happened to them.
    """

    Z: Tensor
    C: Tensor
    reached: tuple[bool, ...]
    tally: Tally

    @classmethod
    def start(cls, theta: Tensor, count: int) -> "Tangents":
        """Return the all-zero tangents of `count` values at `theta` of shape `(D,)`."""
        Z = theta.new_zeros(count, theta.numel())
        return cls(Z, torch.zeros_like(Z), (False,) * count, Tally.start(theta, count))


def forward_step(
    model: FlatModel,
    state: InnerState,
    tangents: Tangents,
    batch: Batch,
    schedule: Schedule,
    step: int,
    horizon: int,
    options: ForwardOptions,
    ranks: Ranks = ALONE,
) -> tuple[InnerState, Tangents, Tensor, Tensor]:
    """Take inner step `step` and carry the tangents through it.

    Args:
        model: The network and its loss.
        state: `theta_{t-1}`, `v_{t-1}`; its buffers are updated in place.
        tangents: `Z_{t-1}`, `C_{t-1}`.
        batch: The step's minibatch: `(B, ...)` inputs and `(B,)` labels.
        schedule: The values in use.
        step: 0-based inner step.
        horizon: `T`, inner steps.
        options: Clipping, truncation, strategy.
        ranks: Who else takes the step, with other tangents; all leave it with one state.

    Returns:
        The next state, the next tangents, the loss (scalar) and the predictions on the minibatch.
    """
    share = ranks.share(sum(schedule.counts))
    rows = rows_at(schedule, step, horizon, options.truncation, tangents.reached, share)
    values = schedule.at(step, horizon)
    taken = advance(model, state, tangents, batch, values, rows, options)
    ranks.agree(taken[0].tensors())
    return taken


def advance(
    model: FlatModel,
    state: InnerState,
    tangents: Tangents,
    batch: Batch,
    values: Rates,
    rows: Rows,
    options: ForwardOptions,
) -> tuple[InnerState, Tangents, Tensor, Tensor]:
    """Do the arithmetic of `forward_step`; no number is read back from the device.

    Args:
        model: The network and its loss.
        state: `theta_{t-1}`, `v_{t-1}`; its buffers are updated in place.
        tangents: `Z_{t-1}`, `C_{t-1}`.
        batch: The step's minibatch: `(B, ...)` inputs and `(B,)` labels.
        values: `alpha_t`, `beta_t`, `mu_t`: numbers, or scalars on the device.
        rows: What the step touches.
        options: Clipping, and how Hessian products are computed.

    Returns:
        As `forward_step`.
    """
    x, y = batch
    live = spans(rows.live)
    noted: list[Tensor] = []
    # The training step updates the buffers; its Hessian is that of the loss before.
    buffers = {name: buffer.clone() for name, buffer in state.buffers.items()} if live else {}

    def primal(theta: Tensor) -> Tensor:
        loss, predictions = model.tracked_loss(theta, x, y, state.buffers)
        noted.extend((loss.detach(), predictions.detach()))
        return loss

    Z, shortcuts = _gathered(tangents.Z, live), (options.batch_fraction, options.precision)
    if live and not is_exact(*shortcuts):
        g = gradient(primal, state.theta)
        HZ = inexact_products(model, state.theta, Z, batch, buffers, options.strategy, *shortcuts)
    else:
        g, HZ = gradient_and_products(
            lambda theta: model.loss(theta, x, y, buffers),
            state.theta,
            Z,
            options.strategy,
            primal,
        )
    clipped = share_above(g, options.clip_gradient)
    g, passes = clip_gradient(g, options.clip_gradient)
    if passes is not None:
        HZ = torch.where(passes, HZ, 0.0)  # zero, even where the product overflowed
    limit = options.clip_products
    touched = share_above(HZ, limit)
    if limit is not None:
        HZ = HZ.clamp(-limit, limit)
    theta, v = sgd_step(state.theta, state.v, g, values)

    Z, C = _recursion(tangents, HZ, state, v, values, rows)
    loss, predictions = noted
    return (
        InnerState(theta, v, state.buffers),
        Tangents(Z, C, rows.reached, tangents.tally.after(Z, rows.live, clipped, touched)),
        loss,
        predictions,
    )


def settle(
    model: FlatModel,
    theta: Tensor,
    batch: Batch,
    count: int,
    options: ForwardOptions,
    ranks: Ranks = ALONE,
) -> ForwardOptions:
    """Return options whose strategy fits the network: `auto` is replaced by the fastest.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        batch: A minibatch of the training.
        count: `N`, tangents to carry.
        options: What is asked for.
        ranks: Who carries them; rank 0 decides.

    Returns:
        The same, with another strategy at most.

    Raises:
        ValueError: For a strategy that does not fit, or inexact products that cannot be had: see
            `strategy.check_strategy` and `inexact.check_inexact`.
    """
    shortcuts = options.batch_fraction, options.precision
    check_strategy(model, options.strategy, batch)
    check_inexact(model, theta, batch, options.strategy, *shortcuts)
    if options.strategy != "auto":
        return options
    strategy = None
    if ranks.rank == 0:
        given = *reduced(model, theta, batch, *shortcuts), len(ranks.share(count))
        strategy = choose_strategy(*given).strategy
    return replace(options, strategy=ranks.said(strategy))


def hypergradients(
    model: FlatModel,
    theta: Tensor,
    batch_at: Callable[[int], Batch],
    validation: Iterable[Batch],
    schedule: Schedule,
    horizon: int,
    options: ForwardOptions = ForwardOptions(),  # noqa: B008 (frozen)
    ranks: Ranks = ALONE,
) -> Hypergradients:
    """Train for `horizon` steps and return the hypergradient of every value of the schedule.

    Args:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        batch_at: Maps a 0-based inner step to its minibatch.
        validation: Batches of validation data.
        schedule: The values in use.
        horizon: `T`, inner steps.
        options: Clipping, truncation, strategy; exact by default.
        ranks: Processes that share the tangents, from `join_ranks`; each calls this with the same
            network, data and values, and all get the same result.

    Returns:
        Hypergradients, contributing steps, and the final inner state.

    Raises:
        ValueError: If a kind has more values than there are steps, or the strategy does not fit
            the network.
    """
    contributing = contributing_steps(schedule.counts, horizon, options.truncation)
    options = settle(model, theta, batch_at(0), len(contributing), options, ranks)
    state = InnerState.start(theta, model.buffers())
    ranks.meet(state.tensors())
    tangents = Tangents.start(theta, len(ranks.share(len(contributing))))
    for step in range(horizon):
        state, tangents, _, _ = forward_step(
            model, state, tangents, batch_at(step), schedule, step, horizon, options, ranks
        )
    return project(model, state, tangents, validation, contributing, ranks)


def project(
    model: FlatModel,
    state: InnerState,
    tangents: Tangents,
    validation: Iterable[Batch],
    contributing: tuple[int, ...],
    ranks: Ranks = ALONE,
) -> Hypergradients:
    """Return `Z_T g`, each entry divided by its number of contributing steps.

    Args:
        model: The network and its loss.
        state: Where the inner loop ended.
        tangents: Its tangents there.
        validation: Batches of validation data; `g` is the gradient of their mean loss.
        contributing: Contributing steps, one count a value.
        ranks: Who carries the tangents; each gets the hypergradients of all.

    Returns:
        The hypergradients, with their spread over the batches.

    Raises:
        ValueError: Without a batch.
    """
    total, count, samples = torch.zeros_like(state.theta), 0, []
    for size, g in validation_gradients(model, state.theta, validation, state.buffers):
        total += size * g
        count += size
        samples.append(_by_row(tangents.Z, g))
    if not samples:
        raise ValueError("no validation data: give at least one batch")
    raw = _by_row(tangents.Z, total / count).tolist()
    trust = tangents.tally.trust(tangents.Z, torch.stack(samples))
    found = ranks.collect(list(zip(raw, trust, strict=True)))
    values = tuple(h / steps for (h, _), steps in zip(found, contributing, strict=True))
    return Hypergradients(values, contributing, state, tuple(trust for _, trust in found))


def _by_row(Z: Tensor, g: Tensor) -> Tensor:
    """`Z g`, rounded in the same way however many rows there are, and wherever they lie."""
    return torch.stack([z.clone() @ g for z in Z]) if len(Z) else Z @ g


def _recursion(
    tangents: Tangents, HZ: Tensor, state: InnerState, v: Tensor, values: Rates, rows: Rows
) -> tuple[Tensor, Tensor]:
    """Return the next `Z` and `C`, by the equations at the top; few sweeps over the memory."""
    still = len(rows.moving) < len(tangents.Z)
    Z, C = (t.clone() if still else torch.empty_like(t) for t in (tangents.Z, tangents.C))
    moving = spans(rows.moving)
    for span in moving:
        torch.mul(tangents.C[span], values.beta, out=C[span])
        _add_multiple(C[span], tangents.Z[span], values.mu, C[span])
    live = spans(rows.live)
    for span, part in zip(live, HZ.split([s.stop - s.start for s in live]), strict=True):
        C[span] += part
    if rows.beta is not None:
        C[rows.beta] += state.v
    if rows.mu is not None:
        C[rows.mu] += state.theta
    for span in moving:
        _add_multiple(tangents.Z[span], C[span], -values.alpha, Z[span])
    if rows.alpha is not None:
        Z[rows.alpha] -= v
    return Z, C


def _add_multiple(t: Tensor, more: Tensor, factor: float | Tensor, out: Tensor) -> None:
    """Write `t + factor more` to `out`: the same bits for a number and for a scalar tensor."""
    if isinstance(factor, Tensor):
        torch.addcmul(t, more, factor, out=out)
    else:
        torch.add(t, more, alpha=factor, out=out)


def _gathered(Z: Tensor, live: list[slice]) -> Tensor:
    """The rows of some slices; a view, which copies nothing, of a single one."""
    return Z[live[0]] if len(live) == 1 else torch.cat([Z[:0], *(Z[span] for span in live)])
