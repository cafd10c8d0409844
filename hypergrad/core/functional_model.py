"""A module as pure functions of one flat parameter vector.

Inside the differentiated step, normalisation layers use batch statistics and touch no buffer; the
running statistics that evaluation needs are updated beside it, as an ordinary training loop would.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from hypergrad.core.batches import example_count
from hypergrad.core.objective import Batch, Criterion, Loss, Objective, as_objective

__all__ = ["Batch", "FlatModel"]

Values = Mapping[str, Tensor]
NO_VALUES: Values = {}


class _Call(nn.Module):
    """A network inside its loss, so that a loss may call it as it likes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, loss: Loss, batch: Batch, values: Values) -> tuple[Tensor, Any]:
        result = loss(self.net, batch, values)
        pair = isinstance(result, tuple) and len(result) == 2
        value, output = result if pair else (result, None)
        if not isinstance(value, Tensor) or value.dim():
            what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"the loss returned {what}: return a scalar tensor, the mean over the batch, or "
                "that and an output"
            )
        return value, output


class FlatModel:
    """View of a module through a `(D,)` vector `theta` of all its trainable parameters.

    Args:
        module: Any twice differentiable module. It is copied, and left as it is: mode, weights
            and buffers. Parameters with `requires_grad=False` are constants.
        objective: What it is trained for; or its loss alone, of (module, batch, values); or a
            criterion, which maps (predictions, labels) to the mean loss of a batch, for a network
            of one input, judged by its accuracy.

    Raises:
        ValueError: If the module has no trainable parameters.
    """

    def __init__(
        self, module: nn.Module, objective: Objective | Loss | Criterion = F.cross_entropy
    ) -> None:
        self.module = module
        self.objective = as_objective(objective)
        self._net = copy.deepcopy(module)
        self._call = _Call(self._net)
        parameters = {n: p for n, p in self._net.named_parameters() if p.requires_grad}
        if not parameters:
            raise ValueError(
                f"{type(module).__name__} has no trainable parameters: nothing can be learned"
            )
        self._names = list(parameters)
        self._shapes = [parameter.shape for parameter in parameters.values()]
        self._sizes = [parameter.numel() for parameter in parameters.values()]
        self._norms = [
            layer
            for layer in self._net.modules()
            if isinstance(layer, _BatchNorm) and layer.track_running_stats
        ]
        self._dropouts = [
            layer for layer in self._net.modules() if isinstance(layer, _DropoutNd) and layer.p > 0
        ]
        self._mode = ""
        self._others: dict[torch.dtype, FlatModel] = {}

    @property
    def has_dropout(self) -> bool:
        """Whether two evaluations of the training loss can differ."""
        return bool(self._dropouts)

    @property
    def normalises(self) -> bool:
        """Whether there are layers of batch normalisation."""
        return any(isinstance(layer, _BatchNorm) for layer in self._net.modules())

    @property
    def size(self) -> int:
        """`D`, the number of parameters."""
        return sum(self._sizes)

    def theta(self) -> Tensor:
        """Return a copy of the module's own trainable parameters as a `(D,)` vector."""
        own = dict(self.module.named_parameters())
        return torch.cat([own[name].detach().reshape(-1) for name in self._names])

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
        own = dict(self.module.named_parameters())
        return torch.cat(
            [torch.full_like(own[n], float(where(n, own[n]))).reshape(-1) for n in self._names]
        ).detach()

    def loss(
        self,
        theta: Tensor,
        batch: Batch,
        buffers: dict[str, Tensor] | None = None,
        values: Values = NO_VALUES,
    ) -> Tensor:
        """Return the training loss of a batch as a pure function of `theta` and `values`.

        Normalisation uses batch statistics; dropout is off.

        Args:
            theta: `(D,)` parameters.
            batch: Any nest of tensors that the loss takes.
            buffers: What other layers keep in buffers; not changed. Default: the module's own.
            values: Of the loss's hyperparameters.

        Returns:
            Scalar loss.
        """
        self._set_mode("pure")
        kept = self.buffers() if buffers is None else _copies(buffers)
        return self._evaluate(self.objective.loss, theta, batch, kept, values)[0]

    def validation_loss(
        self, theta: Tensor, batch: Batch, buffers: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Return the validation loss of a batch, as `loss` does that of training."""
        self._set_mode("pure")
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
        self._set_mode("training")
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
        self._set_mode("evaluation")
        total = torch.zeros(2, dtype=torch.float64)
        count = 0
        for batch in batches:
            size = example_count(batch)
            loss, output = self._evaluate(self._validation, theta, batch, buffers)
            score = self._score(loss, output, batch)
            total = total.to(loss.device) + torch.stack([(loss * size).double(), score.double()])
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
        state = {**self.parameters(theta), **buffers}
        inside = {f"net.{name}": tensor for name, tensor in state.items()}
        return functional_call(self._call, inside, (loss, batch, values))

    def _score(self, loss: Tensor, output: Any, batch: Batch) -> Tensor:  # noqa: ANN401
        """The metric's sum over a batch."""
        if self.objective.metric is None:
            return torch.full_like(loss, torch.nan)
        score = self.objective.metric(output, batch)
        return score.sum() if score.dim() else score * example_count(batch)

    def _set_mode(self, mode: str) -> None:
        if mode == self._mode:
            return
        self._net.train(mode != "evaluation")
        for layer in self._norms:
            # Without tracking a layer in training mode neither reads nor writes its buffers.
            layer.track_running_stats = mode != "pure"
        if mode == "pure":
            for layer in self._dropouts:
                layer.eval()
        self._mode = mode


def _copies(buffers: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in buffers.items()}
