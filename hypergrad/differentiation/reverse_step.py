"""One inner step, and the way back through it: adjoints before the step from those after it.

By the transposed derivative of the rule (see `core.rules.rule`), with adjoints `P` of theta and `Q`
of the optimiser's slots,

    (u, P', Q_{t-1}, h_t) = J^T (P_t, Q_t)        by gradient, parameters, slots and values
    u <- J_transform u
    P_{t-1} = P' + H u        h_t of the loss's values = M^T u

`H` is the Hessian of the training loss on the step's minibatch and `M` its mixed derivative by the
parameters and the values of the loss: both together are one product, on the graph of the gradient.
That graph is made on the way back, or kept on the way there. So both take the gradient in the same
way, as `fused` does where the network allows it, and come to the same bits.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.batches import first_examples
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer, StepValues
from hypergrad.core.rules import State
from hypergrad.core.training_step import InnerState, micro_batches
from hypergrad.curvature import (
    Fused,
    LayoutError,
    check_layout,
    gradient,
    gradient_and_multiplier,
    multiplier,
)

__all__ = [
    "Graph",
    "Taken",
    "can_fuse",
    "graph_bytes",
    "outlives_evaluations",
    "reverse_step",
    "taken_step",
]


class Graph(NamedTuple):
    """The gradient of a step, and what multiplies by its derivative.

    Attributes:
        g: `(D + M,)`: by the parameters, and by the values of the loss.
        multiply: Maps `(K, D + M)` rows to their products, on a graph that holds the activations of
            the batch; None where no product is needed.
    """

    g: Tensor
    multiply: Callable[[Tensor], Tensor] | None


class Taken(NamedTuple):
    """An inner step that was taken.

    Attributes:
        state: After it.
        loss: Scalar, on the minibatch.
        score: The metric's sum over it.
        graph: Of its gradient, if it was to be kept.
    """

    state: InnerState
    loss: Tensor
    score: Tensor
    graph: Graph | None


def can_fuse(model: FlatModel, theta: Tensor, batch: Batch, values: dict[str, Tensor]) -> bool:
    """Return whether the network trains alike under `Fused`, see `curvature.layout`."""
    try:
        check_layout(partial(model.loss, batch=micro_batches(batch)[0], values=values), theta)
    except LayoutError:
        return False
    return True


def taken_step(
    model: FlatModel,
    before: InnerState,
    batch: Batch,
    optimizer: BoundOptimizer,
    values: StepValues,
    step: int,
    *,
    fused: bool,
    keep_graph: bool = False,
) -> Taken:
    """Take an inner step.

    Args:
        model: The network and its loss.
        before: Where it starts; left as it is.
        batch: Its minibatch; one alone if its graph is to be kept.
        optimizer: The inner optimiser.
        values: What it and the loss use.
        step: 0-based.
        fused: Whether the gradient is taken as `fused` does.
        keep_graph: Whether the graph of the gradient is kept.
    """
    size, micros = len(before.theta), micro_batches(batch)
    assert not keep_graph or len(micros) == 1, "the graph of a minibatch as a whole"
    state = before.copied()  # a graph may hold the buffers that it was made with
    given = torch.cat([before.theta, values.loss]) if len(values.loss) else before.theta
    gradients, losses, scores, graph = [], [], [], None
    for micro in micros:
        point = given.detach().requires_grad_()
        with Fused() if fused else nullcontext():
            named = optimizer.named(point[size:])
            loss, score = model.tracked_loss(point[:size], micro, state.buffers, named)
        g = torch.autograd.grad(loss, point, create_graph=keep_graph)[0]
        if keep_graph:
            graph = Graph(g.detach(), multiplier(g, point))
        gradients.append(g.detach()[:size])
        losses.append(loss.detach())
        scores.append(score.detach())
    g = gradients[0] if len(gradients) == 1 else torch.stack(gradients).mean(dim=0)
    g = optimizer.transform(g)
    theta, slots = optimizer.rule.update(g, before.theta, before.slots, values.rule, step)
    after = InnerState(theta, slots, state.buffers)
    return Taken(after, torch.stack(losses).mean(), torch.stack(scores).sum(), graph)


def outlives_evaluations(
    model: FlatModel,
    before: InnerState,
    batch: Batch,
    optimizer: BoundOptimizer,
    values: StepValues,
    *,
    fused: bool,
) -> bool:
    """Return whether a kept graph gives the same products after other evaluations.

    Activations that are computed again (`torch.utils.checkpoint`), lazy closures and hooks would
    see the weights of the last evaluation in place of their own. Tried once a network: with other
    weights, on two examples.
    """
    key = "outlives_evaluations", fused
    if key not in model.tested:
        given = model, before, batch, optimizer, values, 0
        size, named = len(before.theta), optimizer.named(values.loss)
        rows = torch.cos(torch.arange(size + len(values.loss))).to(before.theta)[None]
        rows[:, size:] = 0
        products = []
        try:
            for others in (False, True):
                graph = taken_step(*given, fused=fused, keep_graph=True).graph
                assert graph is not None
                assert graph.multiply is not None
                if others:
                    two = first_examples(batch, 2)
                    model.loss(1.5 * before.theta + 0.1, two, before.copied().buffers, named)
                products.append(graph.multiply(rows))
            model.tested[key] = torch.equal(*products)
        except Exception:  # noqa: BLE001 (what cannot be tried is not relied upon)
            model.tested[key] = False
    return bool(model.tested[key])


def graph_bytes(
    model: FlatModel,
    before: InnerState,
    batch: Batch,
    optimizer: BoundOptimizer,
    values: StepValues,
    *,
    fused: bool,
) -> int:
    """Return the memory of a step's graph: its gradient, and all that it saves, each once."""
    seen: dict[int, torch.UntypedStorage] = {}  # held, so that no place is used twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage
        return tensor

    kept = (
        before.theta.untyped_storage().data_ptr(),
        *(t.untyped_storage().data_ptr() for t in before.tensors()),
    )
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        given = model, before, batch, optimizer, values, 0
        taken = taken_step(*given, fused=fused, keep_graph=True)
    assert taken.graph is not None
    saved = sum(storage.nbytes() for place, storage in seen.items() if place not in kept)
    return saved + taken.graph.g.nbytes


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
    graph: Graph | None = None,
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
        graph: Of the step's gradient, if it was kept.

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
    if graph is not None:
        assert graph.multiply is not None
        gradients, multipliers, micros = [graph.g[:size]], [graph.multiply], ()
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
