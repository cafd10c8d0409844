"""A module as pure functions of one flat parameter vector.

Inside the differentiated step, normalisation layers use batch statistics and touch no buffer; the
running statistics that evaluation needs are updated beside it, as an ordinary training loop would.
"""

import copy
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

__all__ = ["Batch", "FlatModel"]

Batch = tuple[Tensor, Tensor]  # inputs and labels
Criterion = Callable[[Tensor, Tensor], Tensor]


class FlatModel:
    """View of a module through a `(D,)` vector `theta` of all its trainable parameters.

    Args:
        module: Any twice differentiable module. It is copied, and left as it is: mode, weights
            and buffers. Parameters with `requires_grad=False` are constants.
        criterion: Maps (predictions, labels) to the mean loss of a batch.

    Raises:
        ValueError: If the module has no trainable parameters.
    """

    def __init__(self, module: nn.Module, criterion: Criterion = F.cross_entropy) -> None:
        self.module = module
        self.criterion = criterion
        self._net = copy.deepcopy(module)
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
            self._others[dtype] = FlatModel(module, self.criterion)
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

    def loss(
        self, theta: Tensor, x: Tensor, y: Tensor, buffers: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Return the loss of a batch as a pure function of `theta`.

        Normalisation uses batch statistics; dropout is off.

        Args:
            theta: `(D,)` parameters.
            x: `(B, ...)` inputs.
            y: `(B,)` labels.
            buffers: What other layers keep in buffers; not changed. Default: the module's own.

        Returns:
            Scalar loss.
        """
        self._set_mode("pure")
        kept = self.buffers() if buffers is None else _copies(buffers)
        state = {**self.parameters(theta), **kept}
        return self.criterion(functional_call(self._net, state, (x,)), y)

    def tracked_loss(
        self, theta: Tensor, x: Tensor, y: Tensor, buffers: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the training loss and the predictions, updating `buffers` in place.

        Args:
            theta: `(D,)` parameters.
            x: `(B, ...)` inputs.
            y: `(B,)` labels.
            buffers: The running statistics, updated as by `module.train()`.

        Returns:
            Scalar loss, and `(B, classes)` predictions.
        """
        self._set_mode("training")
        state = {**self.parameters(theta), **buffers}
        predictions = functional_call(self._net, state, (x,))
        return self.criterion(predictions, y), predictions

    @torch.no_grad()
    def evaluate(
        self,
        theta: Tensor,
        buffers: dict[str, Tensor],
        batches: Iterable[Batch],
    ) -> tuple[float, float]:
        """Return mean loss and accuracy over labelled batches, with running statistics.

        Args:
            theta: `(D,)` parameters.
            buffers: Running statistics.
            batches: (inputs, labels) pairs; the last one may be short.

        Returns:
            Mean loss and accuracy in [0, 1] over all examples.
        """
        self._set_mode("evaluation")
        state = {**self.parameters(theta), **buffers}
        total = torch.zeros(2, dtype=torch.float64)
        count = 0
        for x, y in batches:
            predictions = functional_call(self._net, state, (x,))
            loss = self.criterion(predictions, y) * len(y)
            correct = (predictions.argmax(1) == y).sum()
            total = total.to(loss.device) + torch.stack([loss.double(), correct.double()])
            count += len(y)
        loss, accuracy = (total / count).tolist()
        return loss, accuracy

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
