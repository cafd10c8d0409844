"""Whether a loss is a function of weights, buffers, batch and seed, and of nothing else."""

import torch
from torch import Tensor

from hypergrad.core.batches import example_count, first_examples
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.module_state import changed_attribute, first_difference, snapshot
from hypergrad.core.training_step import micro_batches
from hypergrad.differentiation.gradient_differences import probe
from hypergrad.differentiation.tested_problem import (
    TestedProblem,
    called_buffer,
    is_close,
    reseed,
)

__all__ = ["check_connected", "check_feedback", "check_repeatable"]


def check_connected(problem: TestedProblem) -> None:
    """Refuse a loss that does not depend on the weights it is given."""
    model, theta, batch, _, _, values = problem
    point = theta.detach().requires_grad_()
    loss = model.tracked_loss(point, micro_batches(batch)[0], model.buffers(), values)[0]
    found = torch.autograd.grad(loss, point, allow_unused=True)[0] if loss.requires_grad else None
    if found is None:
        raise ValueError(
            "the loss does not depend on the weights of the module that it is given: compute with "
            "that module, not with another that the loss has closed over"
        )
    outside = {n: p for n, p in model.module.named_parameters() if p.requires_grad}
    loss = model.tracked_loss(point, micro_batches(batch)[0], model.buffers(), values)[0]
    used = torch.autograd.grad(loss, list(outside.values()), allow_unused=True)
    for name, found in zip(outside, used, strict=True):
        if found is not None:
            raise ValueError(
                f"the loss computes with {name} of the module that was handed over, not of the one "
                "that it is given: a penalty, say, of a module that it has closed over"
            )


def check_repeatable(problem: TestedProblem) -> None:
    """Refuse a network that remembers its calls outside of its buffers."""
    model, theta, batch, _, _, values = problem
    batch = micro_batches(batch)[0]
    some = first_examples(batch, max(example_count(batch) // 2, 1))
    before = model.buffers()

    def evaluate(given: Batch = batch) -> Tensor:
        reseed()
        buffers = {name: buffer.clone() for name, buffer in before.items()}
        with torch.no_grad():
            return model.tracked_loss(theta, given, buffers, values)[0]

    tolerance = 0.0 if theta.device.type == "cpu" else 1e-5
    first = evaluate()
    kept = snapshot(model.net)
    later = evaluate(some)
    again = evaluate()
    if changed := changed_attribute(model.net, kept, snapshot(model.net)):
        raise ValueError(
            f"{changed} changes from call to call, and is neither parameter nor buffer: the same "
            "training would not be taken twice; keep it in a buffer (register_buffer)"
        )
    fresh = problem._replace(model=FlatModel(model.module, model.objective))
    if not is_close(later, _first_loss(fresh, some), tolerance):
        raise ValueError(
            f"{type(model.module).__name__} gives a result that depends on the batch that it was "
            "called with first: call it once before it is handed over, and let it keep in buffers "
            "what it remembers"
        )
    if not is_close(first, again, tolerance):
        where = first_difference(model.net, evaluate, evaluate) or "the loss"
        raise ValueError(
            f"{where} gives another result when it is called again with the same weights, batch "
            "and seed: keep what it remembers in buffers, and draw from torch's own generator"
        )


def _first_loss(problem: TestedProblem, batch: Batch) -> Tensor:
    model, theta, _, _, _, values = problem
    reseed()
    with torch.no_grad():
        return model.tracked_loss(theta, batch, model.buffers(), values)[0]


def check_feedback(problem: TestedProblem) -> None:
    """Refuse buffers that follow the weights and that a loss reads, in training or validation."""
    model, theta, batch, _, _, values = problem
    batch = micro_batches(batch)[0]
    start = model.buffers()
    if not any(buffer.is_floating_point() for buffer in start.values()):
        return

    def loss(buffers: dict[str, Tensor], point: Tensor) -> Tensor:
        reseed()
        return model.tracked_loss(point, batch, buffers, values)[0]

    with torch.no_grad():
        here, there = ({n: b.clone() for n, b in start.items()} for _ in range(2))
        loss(here, theta)
        loss(there, theta + 0.1 * theta.square().mean().sqrt() * probe(theta)[0])
        moved = [name for name in here if not torch.equal(here[name], there[name])]
        if not moved:
            return
        losses = {"training": loss}
        if model.objective.validation_loss is None:  # which may want other batches
            losses["validation"] = lambda buffers, point: model.validation_loss(
                point, batch, buffers
            )
        for kind, evaluate in losses.items():
            usual = evaluate({n: b.clone() for n, b in here.items()}, theta)
            for name in moved:
                mixed = {n: (there if n == name else here)[n].clone() for n in here}
                if not torch.equal(evaluate(mixed, theta), usual):
                    raise ValueError(
                        f"the {kind} loss reads {called_buffer(model, name)}, which follows the "
                        "weights: its derivative is not carried along; freeze it (put that layer "
                        "into evaluation mode), or make it a parameter"
                    )
