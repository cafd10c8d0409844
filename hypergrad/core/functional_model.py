"""A module as pure functions of one flat parameter vector.

Inside the differentiated step, normalisation layers use batch statistics and touch no buffer; the
running statistics that evaluation needs are updated beside it, as an ordinary training loop would.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hypergrad.core.batches import MicroBatches, example_count, first_examples
from hypergrad.core.double_precision import widened
from hypergrad.core.module_copy import ModuleCopy, unwrapped
from hypergrad.core.objective import Batch, Criterion, Loss, Objective, as_objective
from hypergrad.core.randomness import random_source

__all__ = ["Batch", "FlatModel"]

Values = Mapping[str, Tensor]
NO_VALUES: Values = {}
_UNSEEN = "not looked at"


class FlatModel:
    """View of a module through a `(D,)` vector `theta` of all its trainable parameters.

    Args:
        module: Any twice differentiable module. It is copied, and left as it is: mode, weights
            and buffers. Parameters with `requires_grad=False` are constants; layers in evaluation
            mode stay there.
        objective: What it is trained for; or its loss alone, of (module, batch, values); or a
            criterion, which maps (predictions, labels) to the mean loss of a batch, for a network
            of one input, judged by its accuracy.

    Attributes:
        module: The module, without wrappers of compilation or data parallelism.
        objective: What it is trained for.
        tested: What start-up tests have found, by what they tested.

    Raises:
        ValueError: If the module has no trainable parameters, or cannot be copied.
    """

    def __init__(
        self, module: nn.Module, objective: Objective | Loss | Criterion = F.cross_entropy
    ) -> None:
        self.module = unwrapped(module)
        self.objective = as_objective(objective)
        self._copy = ModuleCopy(self.module)
        parameters = self._copy.parameters
        if not parameters:
            raise ValueError(
                f"{type(module).__name__} has no trainable parameters: nothing can be learned"
            )
        self._names = list(parameters)
        self._shapes = [parameter.shape for parameter in parameters.values()]
        self._sizes = [parameter.numel() for parameter in parameters.values()]
        self._others: dict[torch.dtype, FlatModel] = {}
        self._random: str | None = _UNSEEN
        self.tested: dict[object, object] = {}

    def random_source(self, batch: Batch, values: Values = NO_VALUES) -> str | None:
        """Name what draws random numbers in the training loss, seen in an evaluation; it is kept.

        Args:
            batch: A minibatch, or several micro-batches; two examples are taken of it.
            values: Of the loss's hyperparameters.

        Returns:
            The innermost layer, or `the loss`; None if nothing draws from PyTorch's generators.
        """
        if self._random is _UNSEEN:
            two = first_examples(batch[0] if isinstance(batch, MicroBatches) else batch, 2)
            try:
                with torch.no_grad():
                    self._random = random_source(
                        self.net,
                        lambda: self.loss(self.theta(), two, None, values),
                        next(iter(self._copy.parameters.values())).device,
                    )
            except Exception as error:
                error.add_note("The loss was tried on two examples: it must take any number.")
                raise
        return self._random

    @property
    def net(self) -> nn.Module:
        """The copy that is evaluated; its weights are those of the last evaluation."""
        return self._copy.net

    @property
    def size(self) -> int:
        """`D`, the number of parameters."""
        return sum(self._sizes)

    def theta(self) -> Tensor:
        """Return a copy of the module's own trainable parameters as a `(D,)` vector."""
        return torch.cat([own.detach().reshape(-1) for own in self.trainable().values()])

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the module's own trainable parameters by name, in the order of `theta`."""
        own = dict(self.module.named_parameters())
        return {name: own[name] for name in self._names}

    def buffers(self) -> dict[str, Tensor]:
        """Return copies of the module's own buffers, by name."""
        return {name: buffer.detach().clone() for name, buffer in self.module.named_buffers()}

    def to(self, dtype: torch.dtype) -> "FlatModel":
        """Return the same network and loss in another precision; it is made once."""
        if dtype not in self._others:
            module = copy.deepcopy(self.module).to(dtype)
            self._others[dtype] = FlatModel(module, self.objective)
        return self._others[dtype]

    def parameters(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the views of `theta` by parameter name; differentiable."""
        flat = theta.split(self._sizes)
        return {
            name: own.view(shape)
            for name, own, shape in zip(self._names, flat, self._shapes, strict=True)
        }

    def load(self, theta: Tensor, buffers: dict[str, Tensor]) -> None:
        """Copy `theta` and `buffers` into the module itself, for use outside this library."""
        self.module.load_state_dict({**self.parameters(theta), **buffers}, strict=False)

    def mask(self, where: Callable[[str, nn.Parameter], bool]) -> Tensor:
        """Return the `(D,)` mask of some parameters: 1 for those, 0 for the others.

        Args:
            where: Maps the name of a parameter and the parameter to whether it is one of them.
        """
        chosen = [(own, float(where(name, own))) for name, own in self.trainable().items()]
        return torch.cat([torch.full_like(own, x).reshape(-1) for own, x in chosen]).detach()

    def loss(
        self,
        theta: Tensor,
        batch: Batch,
        buffers: dict[str, Tensor] | None = None,
        values: Values = NO_VALUES,
    ) -> Tensor:
        """Return the training loss of a batch as a pure function of `theta` and `values`.

        The same as `tracked_loss`, but that no running statistics are updated.

        Args:
            theta: `(D,)` parameters.
            batch: Any nest of tensors that the loss takes.
            buffers: What other layers keep in buffers; not changed. Default: the module's own.
            values: Of the loss's hyperparameters.

        Returns:
            Scalar loss.
        """
        self._copy.set_mode("pure")
        kept = self.buffers() if buffers is None else _copies(buffers)
        return self._evaluate(self.objective.loss, theta, batch, kept, values)[0]

    def validation_loss(
        self, theta: Tensor, batch: Batch, buffers: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Return the validation loss of a batch as a pure function of `theta`.

        Layers are in evaluation, but that batch normalisation uses batch statistics.
        """
        self._copy.set_mode("validation")
        kept = self.buffers() if buffers is None else _copies(buffers)
        return self._evaluate(self._validation, theta, batch, kept)[0]

    def tracked_loss(
        self,
        theta: Tensor,
        batch: Batch,
        buffers: dict[str, Tensor],
        values: Values = NO_VALUES,
    ) -> tuple[Tensor, Tensor]:
        """Return the training loss and the score, updating `buffers` in place.

        Args:
            theta: `(D,)` parameters.
            batch: As for `loss`.
            buffers: The running statistics, updated as by `module.train()`.
            values: As for `loss`.

        Returns:
            Scalar loss, and the metric's sum over the examples (NaN without a metric).
        """
        self._copy.set_mode("training")
        loss, output = self._evaluate(self.objective.loss, theta, batch, buffers, values)
        with torch.no_grad():
            return loss, self._score(loss, output, batch)

    @torch.no_grad()
    def evaluate(
        self,
        theta: Tensor,
        buffers: dict[str, Tensor],
        batches: Iterable[Batch],
    ) -> tuple[float, float]:
        """Return mean validation loss and metric over batches, with running statistics.

        Args:
            theta: `(D,)` parameters.
            buffers: Running statistics.
            batches: As for `loss`; the last one may be short.

        Returns:
            Means over all examples: of the loss, and of the metric (accuracy: in [0, 1]).
        """
        self._copy.set_mode("evaluation")
        total = torch.zeros(2, dtype=torch.float64)
        count = 0
        for batch in batches:
            size = example_count(batch)
            loss, output = self._evaluate(self._validation, theta, batch, buffers)
            score = self._score(loss, output, batch)
            sums = torch.stack([widened(loss * size), widened(score)])
            total = total.to(sums.device, sums.dtype) + sums
            count += size
        loss, score = (total / count).tolist()
        return loss, score

    @property
    def _validation(self) -> Loss:
        return self.objective.validation_loss or self.objective.loss

    def _evaluate(
        self,
        loss: Loss,
        theta: Tensor,
        batch: Batch,
        buffers: dict[str, Tensor],
        values: Values = NO_VALUES,
    ) -> tuple[Tensor, Any]:
        self._copy.install({**self.parameters(theta), **buffers})
        with self._differentiable():
            result = loss(self.net, batch, values)
        self._copy.collect(buffers)
        pair = isinstance(result, tuple) and len(result) == 2
        value, output = result if pair else (result, None)
        if not isinstance(value, Tensor) or value.dim():
            what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"the loss returned {what}: return a scalar tensor, the mean over the batch, or "
                "that and an output"
            )
        return value, output

    @contextmanager
    def _differentiable(self) -> Iterator[None]:
        """Where PyTorch has several kernels, take one that can be differentiated twice."""
        recurrent = self._copy.has_recurrence_on_gpu
        plain = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
        with sdpa_kernel(SDPBackend.MATH), plain:
            yield

    def _score(self, loss: Tensor, output: Any, batch: Batch) -> Tensor:  # noqa: ANN401
        """The metric's sum over a batch."""
        if self.objective.metric is None:
            return torch.full_like(loss, torch.nan)
        score = self.objective.metric(output, batch)
        return score.sum() if score.dim() else score * example_count(batch)


def _copies(buffers: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in buffers.items()}
