"""An ordinary training loop on the plain module with `torch.optim`: the truth of everything else.

It shares no code with the functional model: the module is called as it is, its gradients are those
of `backward`, and the steps are torch's own. It is slow and obvious on purpose.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hypergrad.core.batches import MicroBatches, example_count
from hypergrad.core.gradient_transforms import ElementwiseClip, NoClip, NormClip
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.objective import Batch, Criterion, Loss, Objective, as_objective
from hypergrad.core.rules import Rule
from hypergrad.core.rules.torch_optim import set_group_values
from hypergrad.core.schedule import Schedule, Value

__all__ = ["PlainTraining"]


class PlainTraining:
    """Training of a copy of a module, as its user would write it.

    Parts of the module stay in training or evaluation mode as they are in the module given. A
    parameter that a step's loss does not use has no gradient, and torch's optimisers leave it
    alone.

    Args:
        module: It is copied, and left as it is.
        objective: As for `FlatModel`.
        optimizer: Its rule is `torch.optim`'s; a rule of the user's own is applied as it is.
        schedule: Values; those of declared hyperparameters that it lacks stay at their start.
        horizon: `T`, inner steps.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Objective | Loss | Criterion,
        optimizer: InnerOptimizer,
        schedule: Schedule,
        horizon: int,
    ) -> None:
        self.module = copy.deepcopy(module)
        self.horizon = horizon
        self._objective = as_objective(objective)
        self._optimizer = optimizer
        self._schedule = schedule
        declared = {each.name: each for each in optimizer.hyperparameters}
        fixed = [each for name, each in declared.items() if name not in schedule]
        self._fixed = Schedule(
            {each.name: each.coefficients for each in fixed},
            {each.name: each.over for each in fixed},
        )
        names = [name for name in schedule if schedule[name]]
        self._given = [declared.get(name) or Hyperparameter(name) for name in names] + fixed
        self._parameters = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        self._groups = self._divided()
        self._torch = _torch_optimizer(optimizer.rule, [own for own, _ in self._groups])
        self._slots: tuple[Tensor, ...] | None = None

    def step(self, number: int, batch: Batch) -> Tensor:
        """Take one inner step, in the mode that the module was given in.

        Args:
            number: 0-based.
            batch: A minibatch, or several whose gradients are averaged.

        Returns:
            Scalar loss before it, without a graph.
        """
        loss = self.backward(number, batch)
        self.update(number)
        return loss

    def backward(self, number: int, batch: Batch) -> Tensor:
        """Put a step's gradient in place of the parameters' own, before any clip.

        Args:
            number: 0-based.
            batch: As for `step`.

        Returns:
            Scalar loss, without a graph.
        """
        values, total = self._loss_values(number), torch.zeros(())
        micros = batch if isinstance(batch, MicroBatches) else (batch,)
        for parameter in self._parameters.values():
            parameter.grad = None
        for micro in micros:
            loss = self._loss(self._objective.loss, micro, values) / len(micros)
            loss.backward()
            total = total.to(loss) + loss.detach()
        return total

    def update(self, number: int) -> None:
        """Clip the gradient and take the optimiser's step.

        Args:
            number: 0-based.
        """
        self._clip()
        values = self._values_at(number)
        if self._torch is None:
            self._own_update(number, values)
            return
        for group, (_, names) in zip(self._torch.param_groups, self._groups, strict=True):
            own = {target: self._value(names, target, values) for target in names}
            set_group_values(type(self._torch).__name__, group, own, used=own)
        self._torch.step()

    def flat(self) -> Tensor:
        """Return a copy of the trainable parameters as a `(D,)` vector, in the module's order."""
        return torch.cat([p.detach().reshape(-1) for p in self._parameters.values()])

    def load(self, theta: Tensor) -> None:
        """Set the trainable parameters to those of a `(D,)` vector."""
        with torch.no_grad():
            self._put(theta, lambda p, new: p.copy_(new))

    def gradient(self) -> Tensor:
        """Return a copy of their gradients, `(D,)`; zero where there is none."""
        return torch.cat(
            [
                (torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1)
                for p in self._parameters.values()
            ]
        )

    def validation_loss(self, batches: Iterable[Batch]) -> float:
        """Return the mean validation loss over all examples, as the library means it.

        The module is in evaluation mode, but for layers of batch normalisation that it was given
        in training mode: they use the batch's statistics, and keep none.

        Args:
            batches: Of validation data.

        Raises:
            ValueError: Without a batch.
        """
        total, count = 0.0, 0
        loss = self._objective.validation_loss or self._objective.loss
        with self._validating():
            for batch in batches:
                size = example_count(batch)
                total += size * float(self._loss(loss, batch, {}).detach())
                count += size
        if not count:
            raise ValueError("no validation data: give at least one batch")
        return total / count

    def _loss(self, loss: Loss, batch: Batch, values: Mapping[str, Tensor]) -> Tensor:
        found = loss(self.module, batch, values)
        return found[0] if isinstance(found, tuple) else found

    @contextmanager
    def _validating(self) -> Iterator[None]:
        modes = [(each, each.training) for each in self.module.modules()]
        norms = [each for each, on in modes if on and isinstance(each, _BatchNorm)]
        tracked = [(each, each.track_running_stats) for each in norms]
        try:
            self.module.eval()
            for each in norms:
                each.training, each.track_running_stats = True, False
            yield
        finally:
            for each, on in modes:
                each.training = on
            for each, on in tracked:
                each.track_running_stats = on

    def _divided(self) -> list[tuple[list[nn.Parameter], dict[str, str | None]]]:
        """Parameters that share all their values, with the hyperparameter that sets each."""
        found: dict[tuple, tuple[list[nn.Parameter], dict[str, str | None]]] = {}
        for name, parameter in self._parameters.items():
            setters: dict[str, str | None] = dict.fromkeys(self._optimizer.rule.defaults)
            for each in self._given:
                chosen = each.where is None or each.where(name, parameter)
                if each.target in setters and chosen:
                    setters[each.target] = each.name
            found.setdefault(tuple(setters.items()), ([], setters))[0].append(parameter)
        return list(found.values())

    def _values_at(self, number: int) -> dict[str, Value]:
        given = self._schedule.at(number, self.horizon)
        return {**given, **self._fixed.at(number, self.horizon)}

    def _value(
        self, setters: Mapping[str, str | None], target: str, values: Mapping[str, Value]
    ) -> float:
        name = setters[target]
        value = self._optimizer.rule.defaults[target] if name is None else values[name]
        return value[0] if isinstance(value, tuple) else value

    def _loss_values(self, number: int) -> dict[str, Tensor]:
        values, like = self._values_at(number), next(iter(self._parameters.values()))
        of_loss = [e for e in self._given if e.target not in self._optimizer.rule.defaults]
        found = {}
        for each in of_loss:
            value = values[each.name]
            if isinstance(value, tuple) and len(value) == 1:
                (value,) = value
            found[each.target] = like.detach().new_tensor(value)
        return found

    def _clip(self) -> None:
        transform, parameters = self._optimizer.transform, list(self._parameters.values())
        if isinstance(transform, ElementwiseClip):
            nn.utils.clip_grad_value_(parameters, transform.limit)
        elif isinstance(transform, NormClip):
            nn.utils.clip_grad_norm_(parameters, transform.limit)
        elif not isinstance(transform, NoClip):
            self._put(transform(self.gradient()), lambda p, own: setattr(p, "grad", own))

    def _own_update(self, number: int, values: Mapping[str, Value]) -> None:
        """A step of the user's own rule, on flat vectors as the rule wants them."""
        theta, rule = self.flat(), self._optimizer.rule
        if self._slots is None:
            self._slots = tuple(torch.zeros_like(theta) for _ in rule.slots)
        own: dict[str, float | Tensor] = {}
        for target in rule.defaults:
            numbers = [self._value(setters, target, values) for _, setters in self._groups]
            if len(set(numbers)) == 1:
                own[target] = numbers[0]
                continue
            by_parameter = {
                id(p): x for (ps, _), x in zip(self._groups, numbers, strict=True) for p in ps
            }
            own[target] = torch.cat(
                [
                    torch.full_like(p, by_parameter[id(p)]).reshape(-1)
                    for p in self._parameters.values()
                ]
            ).detach()
        theta, self._slots = rule.update(self.gradient(), theta, self._slots, own, number)
        self._put(theta, lambda p, new: p.detach().copy_(new))

    def _put(self, flat: Tensor, place: Callable[[nn.Parameter, Tensor], Any]) -> None:
        sizes = [p.numel() for p in self._parameters.values()]
        for p, own in zip(self._parameters.values(), flat.detach().split(sizes), strict=True):
            place(p, own.reshape(p.shape).clone())


def _torch_optimizer(rule: Rule, groups: list[list[nn.Parameter]]) -> torch.optim.Optimizer | None:
    """The optimiser of PyTorch that a rule stands for; None for another rule."""
    if rule.in_torch is None:
        return None
    kind, options = rule.in_torch
    # Any learning rate that it accepts: every step sets its own.
    return kind([{"params": own} for own in groups], lr=1.0, **options)  # type: ignore[call-arg]
