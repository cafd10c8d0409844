"""Wide residual networks for small images: pre-activation blocks, no bias in convolutions."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["WideResNet"]


class WideResNet(nn.Module):
    """WRN-depth-width (Zagoruyko and Komodakis, 2016), Xavier-normal initial weights.

    Args:
        shape: (channels, height, width).
        classes: Number of classes.
        depth: Convolutional layers, `6 n + 4` for `n` blocks a group.
        width: Widening factor; WRN-16-1 on 32x32x3 images has 175,066 parameters.

    Raises:
        ValueError: If the depth is not of that form, or the width not positive.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, depth: int = 16, width: int = 1
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth {depth} is not 6n + 4: use 10, 16, 22, 28, 40, ...")
        if width < 1:
            raise ValueError(f"width {width} must be at least 1")
        blocks = (depth - 4) // 6
        channels = [16, 16 * width, 32 * width, 64 * width]
        layers: list[nn.Module] = [nn.Conv2d(shape[0], 16, 3, padding=1, bias=False)]
        for group in range(3):
            for block in range(blocks):
                first = block == 0
                layers.append(
                    _Block(
                        channels[group] if first else channels[group + 1],
                        channels[group + 1],
                        stride=2 if first and group > 0 else 1,
                    )
                )
        self.blocks = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(channels[3])
        self.head = nn.Linear(channels[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels, height, width)` images to `(B, classes)` logits."""
        x = F.relu(self.norm(self.blocks(x)))
        return self.head(x.mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        residual = self.conv2(F.relu(self.norm2(self.conv1(y))))
        return residual + (x if self.shortcut is None else self.shortcut(y))
