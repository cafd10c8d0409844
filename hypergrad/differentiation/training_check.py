"""Whether the functional training step is that of an ordinary loop with the plain module."""

import torch
from torch import Tensor

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.module_state import first_difference
from hypergrad.core.plain_training import PlainTraining
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import InnerState, micro_batches, training_gradient
from hypergrad.curvature.agreement import relative_error
from hypergrad.differentiation.tested_problem import (
    TestedProblem,
    called_buffer,
    is_close,
    reseed,
)

__all__ = ["GRADIENTS", "check_training"]

STEPS = 2
NOISE = 8  # units in the last place of the largest entry that rounding may leave of a zero
MOVE = 1e-3  # how far one step moves the parameters, relative to them
GRADIENTS = {torch.float32: 1e-3, torch.float64: 1e-8}  # relative error, through other kernels


def check_training(problem: TestedProblem) -> list[str]:
    """Refuse losses, gradients, weights and buffers that are not those of an ordinary loop."""
    model, theta, batch, optimizer, schedule, _ = problem
    moving = _moving(problem)
    plain = PlainTraining(model.module, model.objective, optimizer.declared, moving, STEPS)
    plain.load(theta)
    state = InnerState.start(theta, len(optimizer.rule.slots), model.buffers())
    tolerance, remarks = GRADIENTS[theta.dtype], []
    for step in range(STEPS):
        values = optimizer.step_values(optimizer.given(moving, step, STEPS), theta)
        state = state.copied()
        before = state.theta
        reseed()
        g, loss, _ = training_gradient(model, state, batch, optimizer.named(values.loss))
        g = optimizer.transform(g)
        after, slots = optimizer.rule.update(g, before, state.slots, values.rule, step)
        reseed()
        theirs = plain.step(step, batch)
        if not bool(torch.isfinite(loss)):
            return [*remarks, f"the loss is {float(loss)} at step {step}: no more is compared"]
        if not is_close(loss, theirs, tolerance):
            raise ValueError(
                f"at step {step} the loss is {float(loss):.6g}, and {float(theirs):.6g} in an "
                f"ordinary loop with torch.optim: {_first_layer(problem, plain, before)} gives "
                "another result when the weights are put in from outside: does it keep them, or "
                "what it made of them, in attributes?"
            )
        known = ~_rounding(g, plain.gradient())
        move, own = (plain.flat() - before) * known, (after - before) * known
        dust = 8 * torch.finfo(theta.dtype).eps * float(before.norm())
        if float((move - own).norm()) > tolerance * float(move.norm()) + dust:
            raise ValueError(
                f"step {step} moves the weights otherwise than an ordinary loop with torch.optim "
                f"(off by {relative_error(own, move):.1%}), most of all {_worst(model, move - own)}"
            )
        for name, buffer in plain.module.named_buffers():
            if not is_close(state.buffers[name], buffer, 10 * tolerance):
                raise ValueError(
                    f"{called_buffer(model, name)} is updated otherwise than in an ordinary "
                    "loop: a layer that is called again in the backward pass (checkpointing) must "
                    "not keep running statistics"
                )
        state = InnerState(plain.flat(), slots, state.buffers)
    return remarks


def _rounding(*gradients: Tensor) -> Tensor:
    """Where all of several gradients are nothing but rounding beside their largest entry.

    An optimiser that divides by the gradient's size makes steps of it, whatever it is: the gradient
    of an attention's key bias is zero in mathematics, and differs from kernel to kernel. An exact
    zero is none of it: a parameter that the loss does not use has one, and an ordinary loop leaves
    it alone.
    """
    limit = NOISE * torch.finfo(gradients[0].dtype).eps
    small = torch.stack([g.abs() <= limit * g.abs().max() for g in gradients]).all(dim=0)
    return small & torch.stack([g != 0 for g in gradients]).any(dim=0)


def _moving(problem: TestedProblem) -> Schedule:
    """The schedule with learning rates that move the weights a little."""
    model, theta, batch, optimizer, schedule, values = problem
    state = InnerState.start(theta, len(optimizer.rule.slots), model.buffers())
    reseed()
    g = optimizer.transform(training_gradient(model, state, batch, dict(values)).g)

    def at(rate: float) -> Schedule:
        own = {
            name: (rate,) * len(own) if own and optimizer.is_rate(name) else own
            for name, own in schedule.items()
        }
        return Schedule(own, schedule.bases)

    used = optimizer.step_values(optimizer.given(at(1.0), 0, STEPS), theta)
    after, _ = optimizer.rule.update(g, *state.optimized, used.rule, 0)
    moved, size = float((after - theta).norm()), float(theta.norm()) or 1.0
    return at(MOVE * size / moved if moved else MOVE)


def _worst(model: FlatModel, error: Tensor) -> str:
    """The parameter with the largest error."""
    parameters = model.parameters(error)
    return max(parameters, key=lambda name: float(parameters[name].norm()))


def _first_layer(problem: TestedProblem, plain: PlainTraining, theta: Tensor) -> str:
    """The first layer whose output differs between the functional and the plain call."""
    model, _, batch, _, _, values = problem
    batch = micro_batches(batch)[0]

    def functional() -> object:
        reseed()
        return model.tracked_loss(theta, batch, model.buffers(), values)

    def ordinary() -> object:
        reseed()
        return model.objective.loss(plain.module, batch, values)

    plain.load(theta)
    with torch.no_grad():
        return first_difference(model.net, functional, ordinary, plain.module) or "the loss"
