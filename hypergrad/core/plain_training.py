"""An ordinary training loop: the plain module, `backward()` and `torch.optim`.

What everything else here must be the derivative of. It shares no code with the functional model.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hypergrad.core.batches import MicroBatches, example_count
from hypergrad.core.gradient_transforms import ElementwiseClip, NoClip, NormClip
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.objective import Batch, Objective
from hypergrad.core.rules.torch_optim import set_group_values
from hypergrad.core.schedule import Schedule, Value

__all__ = ["PlainTraining"]


class PlainTraining:
    """Trains a copy of a module with a schedule, as a script would.

    Args:
        module: Copied with its weights and modes, and left as it is.
        objective: What it is trained for.
        optimizer: The rule, its clip, and the hyperparameters that are declared.
        schedule: The values, by name.
        horizon: `T`, inner steps that the schedule is stretched to.

    Attributes:
        module: The copy that is trained.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Objective,
        optimizer: InnerOptimizer,
        schedule: Schedule,
        horizon: int,
    ) -> None:
        self.module = copy.deepcopy(module)
        self._objective, self._optimizer = objective, optimizer
        self._schedule, self._horizon = schedule, horizon
        declared = {each.name: each for each in optimizer.hyperparameters}
        self._declared = {
            **{name: declared.get(name) or Hyperparameter(name) for name in schedule},
            **declared,
        }
        self._trainable = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        members: dict[tuple[str, ...], list[nn.Parameter]] = {}
        for name, parameter in self._trainable.items():
            members.setdefault(self._set_for(name, parameter), []).append(parameter)
        self._sets = list(members)
        self._groups = [{"params": own} for own in members.values()]
        self._torch = self._in_torch()
        self._slots = {
            parameter: tuple(torch.zeros_like(parameter) for _ in optimizer.rule.slots)
            for parameter in self._trainable.values()
        }

    def step(self, number: int, batch: Batch) -> Tensor:
        """Take one step.

        Args:
            number: 0-based.
            batch: A minibatch, or several micro-batches whose gradients are averaged.

        Returns:
            The loss, a scalar.
        """
        given = self._given(number)
        loss = self._backward(batch, self._loss_values(given))
        self._clip()
        if self._torch is None:
            self._own_update(given, number)
            return loss
        for names, group in zip(self._sets, self._torch.param_groups, strict=True):
            values = self._rule_values(names, given)
            set_group_values(type(self._torch).__name__, group, values, self._used())
        self._torch.step()
        return loss

    def flat(self) -> Tensor:
        """Return a copy of the trainable parameters as a `(D,)` vector."""
        return torch.cat([own.detach().reshape(-1) for own in self._trainable.values()])

    def load(self, theta: Tensor) -> None:
        """Set the trainable parameters to those of a `(D,)` vector."""
        sizes = [parameter.numel() for parameter in self._trainable.values()]
        with torch.no_grad():
            for parameter, own in zip(self._trainable.values(), theta.split(sizes), strict=True):
                parameter.copy_(own.view_as(parameter))

    def validation_loss(self, batches: Iterable[Batch]) -> float:
        """Return the mean validation loss; batch normalisation uses the statistics of the batch.

        Args:
            batches: Of validation data.
        """
        objective, total, count = self._objective, 0.0, 0
        with torch.no_grad(), _validating(self.module):
            for batch in batches:
                found = (objective.validation_loss or objective.loss)(self.module, batch, {})
                total += float(_value(found)) * example_count(batch)
                count += example_count(batch)
        return total / count

    def _set_for(self, name: str, parameter: nn.Parameter) -> tuple[str, ...]:
        """The hyperparameters of the rule that are set for a parameter."""
        takes = self._optimizer.rule.defaults
        return tuple(
            each.name
            for each in self._declared.values()
            if each.target in takes and (each.where is None or each.where(name, parameter))
        )

    def _in_torch(self) -> torch.optim.Optimizer | None:
        known = self._optimizer.rule.in_torch
        if known is None:
            return None
        options = dict(known.options)
        if options.get("nesterov"):
            options["momentum"] = 0.5  # it is refused without; every step sets its own
        return known.kind(self._groups, lr=1.0, **options)  # type: ignore[call-arg]

    def _given(self, number: int) -> dict[str, Value]:
        values: dict[str, Value] = self._schedule.at(number, self._horizon)
        for name, each in self._declared.items():
            if name not in values:
                fixed = Schedule({name: each.coefficients}, {name: each.over})
                values |= fixed.at(number, self._horizon)
        return values

    def _used(self) -> list[str]:
        """The values of the rule that are not zero in every step."""
        names = [name for name, own in self._schedule.items() if any(own)]
        names += [n for n, each in self._declared.items() if n not in self._schedule]
        return [self._declared[name].target for name in names]

    def _rule_values(self, names: tuple[str, ...], given: Mapping[str, Value]) -> dict[str, float]:
        values = {n: v for n, v in self._optimizer.rule.defaults.items() if not math.isnan(v)}
        for name in names:
            if name in given:
                value = given[name]
                assert not isinstance(value, tuple), "a rule's values are numbers"
                values[self._declared[name].target] = value
        return values

    def _loss_values(self, given: Mapping[str, Value]) -> dict[str, Tensor]:
        like = next(iter(self._trainable.values()))
        takes = self._optimizer.rule.defaults
        return {
            self._declared[name].target: like.new_tensor(value)
            for name, value in given.items()
            if self._declared[name].target not in takes
        }

    def _backward(self, batch: Batch, values: Mapping[str, Tensor]) -> Tensor:
        micro_batches = batch if isinstance(batch, MicroBatches) else (batch,)
        losses = []
        self.module.zero_grad()
        for own in micro_batches:
            loss = _value(self._objective.loss(self.module, own, values)) / len(micro_batches)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _clip(self) -> None:
        match self._optimizer.transform:
            case ElementwiseClip(limit):
                nn.utils.clip_grad_value_(self._trainable.values(), limit)
            case NormClip(limit):
                nn.utils.clip_grad_norm_(self._trainable.values(), limit)
            case NoClip():
                pass
            case transform:  # the user's own, over all parameters at once
                own = list(self._trainable.values())
                flat = torch.cat([_gradient(parameter).reshape(-1) for parameter in own])
                parts = transform(flat).split([parameter.numel() for parameter in own])
                for parameter, part in zip(own, parts, strict=True):
                    parameter.grad = part.view_as(parameter)

    @torch.no_grad()
    def _own_update(self, given: Mapping[str, Value], number: int) -> None:
        """The step of a rule that PyTorch does not have."""
        rule = self._optimizer.rule
        if not rule.elementwise and len(self._groups) == 1:
            own = list(self._trainable.values())
            sizes = [parameter.numel() for parameter in own]
            g, theta = (torch.cat([f(p).reshape(-1) for p in own]) for f in (_gradient, _data))
            if not hasattr(self, "_flat_slots"):
                self._flat_slots = tuple(torch.zeros_like(theta) for _ in rule.slots)
            values = self._rule_values(self._sets[0], given)
            theta, self._flat_slots = rule.update(g, theta, self._flat_slots, values, number)
            for parameter, part in zip(own, theta.split(sizes), strict=True):
                parameter.copy_(part.view_as(parameter))
            return
        for names, group in zip(self._sets, self._groups, strict=True):
            values = self._rule_values(names, given)
            for parameter in group["params"]:
                given_slots = self._slots[parameter]
                new, slots = rule.update(
                    _gradient(parameter), parameter.detach(), given_slots, values, number
                )
                parameter.copy_(new)
                self._slots[parameter] = slots


def _value(found: Tensor | tuple) -> Tensor:
    return found[0] if isinstance(found, tuple) else found


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _data(parameter: nn.Parameter) -> Tensor:
    return parameter.detach()


@contextmanager
def _validating(module: nn.Module) -> Iterator[None]:
    """All layers in evaluation, but batch normalisation on the statistics of the batch."""
    layers = list(module.modules())
    modes = [layer.training for layer in layers]
    own = [layer for layer in layers if isinstance(layer, _BatchNorm) and layer.training]
    norms = [layer for layer in own if layer.track_running_stats]
    try:
        module.eval()
        for layer in own:
            layer.training = True
        for layer in norms:
            layer.track_running_stats = False
        yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode
        for layer in norms:
            layer.track_running_stats = True
