"""Reverse-mode hypergradients: one pass back through the whole training run, any number of values.

With adjoints `P` of theta and `Q` of the optimiser's slots, from `P_T = d L_val / d theta_T` and
`Q_T = 0`, step `t` is undone by the transposed derivative of the rule (see `core.rules.rule`),

    (u, P', Q_{t-1}, h_t) = J^T (P_t, Q_t)        by gradient, parameters, slots and values
    u <- J_transform u
    P_{t-1} = P' + H u        h_t of the loss's values = M^T u

`H` is the Hessian of the training loss on the step's minibatch and `M` its mixed derivative by the
parameters and the values of the loss: both together are one product. A coefficient's hypergradient
is `sum_t B_ti h_t` over its basis, here divided as in forward mode.

The states of the whole run are kept, or every `sqrt(T)`-th, with the steps between taken again
(Griewank's checkpointing with one level: `2 sqrt(T)` states in memory, one more training run).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.basis import Vector, Windows
from hypergrad.core.batches import example_count
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer, InnerOptimizer, StepValues
from hypergrad.core.rules import State
from hypergrad.core.schedule import Schedule, contributing_steps
from hypergrad.core.training_step import InnerState, micro_batches, train_step
from hypergrad.curvature import gradient, gradient_and_multiplier
from hypergrad.differentiation.checkpointing import Trajectory
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics, signal_to_noise
from hypergrad.differentiation.loss_check import check_loss
from hypergrad.differentiation.result import Hypergradients, validation_gradient
from hypergrad.differentiation.self_test import self_test

__all__ = [
    "PerStep",
    "ReverseOptions",
    "backward",
    "check_reversible",
    "gather",
    "hypergradients",
    "reverse_step",
]


@dataclass(frozen=True, kw_only=True)
class ReverseOptions:
    """How hypergradients are computed; always exact.

    Attributes:
        memory_gb: Memory for the states of the inner loop, in units of 1e9 bytes.
        validation_chunks: `K`, into how many chunks the validation data is divided. With 2 or
            more, the signal-to-noise of every hypergradient is known, at a Hessian product a
            chunk and step.
        self_test: Whether each problem is tested before its first step, see `self_test`.
    """

    memory_gb: float = 2.0
    validation_chunks: int = 1
    self_test: bool = True

    def __post_init__(self) -> None:
        if not self.memory_gb > 0:
            raise ValueError(f"memory_gb={self.memory_gb} must be above zero")
        if self.validation_chunks < 1:
            raise ValueError(f"validation_chunks={self.validation_chunks} must be at least 1")


class PerStep(NamedTuple):
    """Hypergradients of the values of every single inner step.

    Attributes:
        names: Of the hyperparameters whose value is a number.
        values: `(K, T, len(names))` float64 on the CPU, for each chunk of the validation data.
        vectors: Of those whose value is a vector, by name: `(K, total)`, of their coefficients,
            summed over the steps.
        shares: Share of the validation examples in each chunk.
        batches: Validation batches in each chunk.
        clipped_gradients: Share of the entries of the training gradients that a clip touched.
    """

    names: tuple[str, ...]
    values: Tensor
    vectors: dict[str, Tensor]
    shares: tuple[float, ...]
    batches: tuple[int, ...]
    clipped_gradients: float

    @property
    def mean(self) -> Tensor:
        """`(T, len(names))` hypergradients of the loss over all validation data."""
        return torch.einsum(
            "k,kts->ts", torch.tensor(self.shares, dtype=torch.float64), self.values
        )


def check_reversible(
    model: FlatModel,
    theta: Tensor,
    batch: Batch,
    optimizer: BoundOptimizer,
    schedule: Schedule,
    options: ReverseOptions | None = None,
) -> None:
    """Refuse a problem whose training steps cannot be taken again and differentiated.

    Args:
        model: The network.
        theta: `(D,)` initial parameters.
        batch: A minibatch of the training.
        optimizer: The inner optimiser.
        schedule: The values.
        options: Say whether the problem is tested; not unless they are given.

    Raises:
        ValueError: For random numbers, which would be others; for whatever `check_loss` and
            `self_test` refuse.
    """
    values = check_loss(model, optimizer, schedule, theta, batch)
    if source := model.random_source(batch, values):
        raise ValueError(
            f"{source} draws random numbers, and reverse mode would draw others on the way back: "
            "use forward mode with strategy='loop'"
        )
    if options is not None and options.self_test:
        self_test(model, theta, batch, optimizer, schedule, None)


def hypergradients(
    model: FlatModel,
    theta: Tensor,
    batch_at: Callable[[int], Batch],
    validation: Iterable[Batch],
    schedule: Schedule,
    horizon: int,
    options: ReverseOptions = ReverseOptions(),  # noqa: B008 (frozen)
    optimizer: InnerOptimizer = InnerOptimizer(),  # noqa: B008 (frozen)
) -> Hypergradients:
    """Train for `horizon` steps and return the hypergradient of every coefficient of the schedule.

    The same as `forward.hypergradients`, in one backward pass: any number of values costs the same,
    `N = T` included, and memory grows with the horizon.

    Args:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        batch_at: Maps a 0-based inner step to its minibatch, the same one every time.
        validation: Batches of validation data.
        schedule: The values in use.
        horizon: `T`, inner steps.
        options: Memory.
        optimizer: The inner optimiser; SGD unless given.

    Returns:
        Hypergradients, contributing steps, and the final inner state.

    Raises:
        ValueError: If a hyperparameter has more coefficients than there are steps, for random
            numbers, if the memory is too small even with checkpoints, or the schedule does not fit
            the optimiser.
    """
    contributing_steps(schedule.bases, horizon)
    bound = optimizer.bind(model, schedule)
    check_reversible(model, theta, batch_at(0), bound, schedule, options)
    state = InnerState.start(theta, len(bound.rule.slots), model.buffers())
    trajectory = Trajectory(horizon, state, options.memory_gb)
    for step in range(horizon):
        trajectory.note(step, state)
        values = bound.step_values(bound.given(schedule, step, horizon), theta)
        state, _, _ = train_step(model, state, batch_at(step), bound, values, step)
    found = backward(
        model, trajectory, state, batch_at, list(validation), bound, schedule, horizon, options
    )
    return gather(found, schedule, state)


def backward(
    model: FlatModel,
    trajectory: Trajectory,
    state: InnerState,
    batch_at: Callable[[int], Batch],
    validation: Sequence[Batch],
    optimizer: BoundOptimizer,
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
        optimizer: The inner optimiser.
        schedule: The values it used.
        horizon: `T`, inner steps.
        options: Memory.
        tick: Is called with the number of steps gone back, after each.

    Returns:
        The hypergradients of every step's values.

    Raises:
        ValueError: Without validation data, or if the last step, taken again, ends elsewhere.
    """

    def values_at(step: int) -> StepValues:
        return optimizer.step_values(optimizer.given(schedule, step, horizon), state.theta)

    def advance(step: int, before: InnerState) -> InnerState:
        return train_step(model, before, batch_at(step), optimizer, values_at(step), step)[0]

    if not validation:
        raise ValueError("no validation data: give at least one batch")
    chunks = _chunks(validation, options.validation_chunks)
    counts = [sum(map(example_count, chunk)) for chunk in chunks]
    P = torch.stack([validation_gradient(model, state.theta, c, state.buffers) for c in chunks])
    adjoints = State(P, tuple(torch.zeros_like(P) for _ in state.slots))
    # While every learning rate is zero the weights stand still: nothing depends on the Hessian.
    curved = optimizer.can_move(schedule)
    names = tuple(name for name in schedule if schedule[name] and not _is_vector(schedule, name))
    found = P.new_zeros(len(chunks), horizon, len(names))
    vectors = {
        name: P.new_zeros(len(chunks), len(own), dtype=torch.float64)
        for name, own in schedule.items()
        if own and _is_vector(schedule, name)
    }
    clipped = P.new_zeros((), dtype=torch.float64)
    for start in reversed(trajectory.starts):
        for step, before in reversed(trajectory.states(start, advance)):
            if step == horizon - 1:
                _check_repeatable(advance(step, before.copied()), state)
            given = model, before, batch_at(step), optimizer, values_at(step), step
            adjoints, own, share = reverse_step(*given, adjoints, curved=curved)
            for place, name in enumerate(names):
                found[:, step, place] = own[name]
            for name, sums in vectors.items():
                size = schedule.bases[name].size
                for function, weight in schedule.bases[name].weights(step, horizon):
                    sums[:, function * size : (function + 1) * size] += weight * own[name]
            clipped += share
            tick(horizon - step)
    shares = tuple(count / sum(counts) for count in counts)
    batches = tuple(len(chunk) for chunk in chunks)
    summed = {name: sums.cpu() for name, sums in vectors.items()}
    per_step = found.double().cpu()
    return PerStep(names, per_step, summed, shares, batches, clipped.item() / horizon)


def reverse_step(
    model: FlatModel,
    before: InnerState,
    batch: Batch,
    optimizer: BoundOptimizer,
    values: StepValues,
    step: int,
    adjoints: State,
    *,
    curved: bool = True,
) -> tuple[State, dict[str, Tensor], Tensor]:
    """Go back through one inner step.

    Args:
        model: The network and its loss.
        before: Where the step started, and the buffers then.
        batch: Its minibatch.
        optimizer: The inner optimiser.
        values: What it and the loss used.
        step: 0-based.
        adjoints: `(K, D)` derivatives of the validation losses by the parameters and slots after
            the step.
        curved: Whether a Hessian product is needed at all.

    Returns:
        The adjoints before the step; by name, `(K,)` hypergradients of this step's value of each
        hyperparameter (`(K, size)` of a vector); share of the gradient's entries that a clip
        touched (scalar).
    """
    size = len(before.theta)

    def loss(micro: Batch, buffers: dict[str, Tensor], point: Tensor) -> Tensor:
        own = optimizer.named(point[size:])
        return model.loss(point[:size], micro, buffers, own)

    point = torch.cat([before.theta, values.loss]) if len(values.loss) else before.theta
    gradients, multipliers = [], []
    micros, buffers = micro_batches(batch), before.buffers
    for number, micro in enumerate(micros):
        if number:  # a micro-batch finds the buffers as the one before has left them
            buffers = before.copied().buffers if number == 1 else buffers
            with torch.no_grad():
                named = optimizer.named(values.loss)
                model.tracked_loss(before.theta, micros[number - 1], buffers, named)
        if curved:
            own, multiply = gradient_and_multiplier(partial(loss, micro, buffers), point)
            multipliers.append(multiply)
        else:
            own = gradient(partial(loss, micro, buffers), point)
        gradients.append(own[:size])
    g = gradients[0] if len(gradients) == 1 else torch.stack(gradients).mean(dim=0)
    g, multiply_transform, share = optimizer.transform.with_derivative(g)
    pulled = optimizer.rule.pull(
        adjoints, before.optimized, g, values.rule, step, optimizer.targets
    )
    of_loss = pulled.gradient.new_zeros(len(pulled.gradient), len(values.loss))
    P = pulled.state.theta
    if curved:
        u = multiply_transform(pulled.gradient)
        rows = torch.cat([u, torch.zeros_like(of_loss)], dim=1) if len(values.loss) else u
        products = [multiply(rows) for multiply in multipliers]
        product = products[0] if len(products) == 1 else torch.stack(products).mean(dim=0)
        P, of_loss = P + product[:, :size], product[:, size:]
    found = {}
    for each in optimizer.learned:
        if each.of_loss:
            entries = optimizer.loss_entries[each.name]
            found[each.name] = of_loss[:, entries] if each.size > 1 else of_loss[:, entries.start]
        else:
            found[each.name] = pulled.of(each.target, each.mask)
    return State(P, pulled.state.slots), found, share


def gather(found: PerStep, schedule: Schedule, state: InnerState) -> Hypergradients:
    """Return the hypergradient of every coefficient of a schedule, from those of every step.

    Args:
        found: As `backward` returns it.
        schedule: Only its bases matter.
        state: Where the inner loop ended.

    Returns:
        Means over the windows of the values; over other bases, as forward mode divides.
    """
    horizon = found.values.shape[1]
    # On the way back: what is lost at one step is lost at all the steps before it.
    all_lost = (~found.values.isfinite()).any(dim=2).any(dim=0).nonzero().flatten()
    began = int(all_lost[-1]) if len(all_lost) else None
    contributing = contributing_steps(schedule.bases, horizon)
    sums: list[Tensor] = []
    bad: list[tuple[int, int | None]] = []
    for name, own in schedule.items():
        if name in found.vectors:
            sums.extend(found.vectors[name].unbind(dim=1))
            lost = (~found.vectors[name].isfinite()).any(dim=0).tolist()
            bad.extend((int(each), began if each else None) for each in lost)
        elif own:
            per_step = found.values[:, :, found.names.index(name)]
            own_sums, own_lost = _over_basis(per_step, schedule, name)
            sums.extend(own_sums)
            bad.extend((lost, began if lost else None) for lost in own_lost)
    if not sums:
        return Hypergradients((), (), state, ())
    samples = torch.stack(sums, dim=1) / torch.tensor(contributing, dtype=torch.float64)
    shares = torch.tensor(found.shares, dtype=torch.float64)
    ratios = signal_to_noise(samples, found.batches)
    diagnostics = tuple(
        HypergradientDiagnostics(ratio, found.clipped_gradients, None, *lost)
        for ratio, lost in zip(ratios, bad, strict=True)
    )
    return Hypergradients(tuple((shares @ samples).tolist()), contributing, state, diagnostics)


def _over_basis(per_step: Tensor, schedule: Schedule, name: str) -> tuple[list[Tensor], list[int]]:
    """Sums of `(K, T)` hypergradients over the functions of a basis, and how many are lost."""
    basis, horizon = schedule.bases[name], per_step.shape[1]
    if isinstance(basis, Windows):
        parts = [per_step[:, slice(*basis.window(i, horizon))] for i in range(basis.count)]
        lost = [int((~part.isfinite()).any(dim=0).sum()) for part in parts]
        return [part.sum(dim=1) for part in parts], lost
    B = per_step.new_zeros(horizon, basis.count)
    for step in range(horizon):
        for function, weight in basis.weights(step, horizon):
            B[step, function] += weight
    gone = (~per_step.isfinite()).any(dim=0)
    lost = [int((gone & (column != 0)).sum()) for column in B.T]
    # A zero weight keeps out what is not finite.
    sums = [per_step[:, column != 0] @ column[column != 0] for column in B.T]
    return sums, lost


def _is_vector(schedule: Schedule, name: str) -> bool:
    return isinstance(schedule.bases[name], Vector) or schedule.bases[name].size > 1


def _check_repeatable(again: InnerState, state: InnerState) -> None:
    """Refuse a training step with randomness of its own: what goes back is not what went there."""
    for first, second in zip(state.optimized.tensors(), again.optimized.tensors(), strict=True):
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
