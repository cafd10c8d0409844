"""One step back: adjoints before an inner step from those after it.

By the transposed derivative of the rule (see `core.rules.rule`), with adjoints `P` of theta and `Q`
of the optimiser's slots,

    (u, P', Q_{t-1}, h_t) = J^T (P_t, Q_t)        by gradient, parameters, slots and values
    u <- J_transform u
    P_{t-1} = P' + H u        h_t of the loss's values = M^T u

`H` is the Hessian of the training loss on the step's minibatch and `M` its mixed derivative by the
parameters and the values of the loss: both together are one product.
"""

from functools import partial

import torch
from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer, StepValues
from hypergrad.core.rules import State
from hypergrad.core.training_step import InnerState, micro_batches
from hypergrad.curvature import gradient, gradient_and_multiplier

__all__ = ["reverse_step"]


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
