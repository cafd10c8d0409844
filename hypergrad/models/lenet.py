"""LeNet: two convolutions and three linear layers."""

from torch import Tensor, nn

__all__ = ["LeNet"]


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max-pooling, for images of at least 16x16 pixels.

    Args:
        shape: (channels, height, width); 28x28x1 gives 44,426 parameters.
        classes: Number of classes.

    Raises:
        ValueError: If the images are too small for two 5x5 convolutions and two poolings.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))
        if min(rows, columns) < 1:
            raise ValueError(
                f"LeNet needs images of at least 16x16 pixels, not {height}x{width}: "
                "resize them, image_size=28"
            )
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 6, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * rows * columns, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels, height, width)` images to `(B, classes)` logits."""
        return self.layers(x)
