"""A small multilayer perceptron."""

from math import prod

from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Fully connected network with ReLU (or tanh, which is smooth) between its layers.

    Args:
        shape: (channels, height, width).
        classes: Number of classes.
        hidden: Units of each hidden layer.
        depth: Hidden layers.
        smooth: tanh in place of ReLU.

    Raises:
        ValueError: If there is no hidden unit or layer.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        hidden: int = 64,
        depth: int = 2,
        smooth: bool = False,
    ) -> None:
        super().__init__()
        if hidden < 1 or depth < 1:
            raise ValueError(f"hidden={hidden}, depth={depth}: both must be at least 1")
        sizes = [prod(shape)] + [hidden] * depth
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(before, after), nn.Tanh() if smooth else nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels, height, width)` images to `(B, classes)` logits."""
        return self.layers(x)
