"""One cell of Table 1, and what its rows and columns are called."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

ROWS = {
    "random": "Random search",
    "hd": "Hypergradient descent",
    "ours": "Ours (learned schedule)",
    "grid": "Hand-tuned (best)",
}
COLUMNS = {"mnist": "MNIST", "svhn": "SVHN", "cifar10": "CIFAR-10", "digits": "Digits"}


class Cell(NamedTuple):
    """A cell; numbers are NaN and texts empty where there is nothing to tell.

    Attributes:
        row: A key of `ROWS`.
        column: A key of `COLUMNS`, or a data set without a title.
        status: `finished`; `partial` if some seeds have no result; `missing` if none has.
        n: Seeds with a result.
        mean: Of their test accuracies, in [0, 1].
        std: Sample standard deviation of the same.
        best: Whether the mean is the highest of its column; of several when equal.
        p_value: Of the difference to the best; NaN for the best, and where it cannot be tested.
        diverged: Seeds whose final training diverged; they count, as chance.
        seeds: Which seeds, in order, with spaces between.
        seconds: Wall time of the search behind a seed's result, mean over seeds, as the next three.
        gradients: Gradient evaluations of the same.
        products: Hessian products of the same, each worth two gradient evaluations.
        trials: Settings or outer steps tried.
        data: As the runs say, as the next four: usually the column's own.
        model: The network.
        scale: Of the experiment.
        epochs: Of a training.
        budget: Of the search, such as `4min`, `100trials` or `2e6gradients`.
        reason: Why seeds are missing.
    """

    row: str
    column: str
    status: str
    n: int
    mean: float
    std: float
    best: bool
    p_value: float
    diverged: int
    seeds: str
    seconds: float
    gradients: float
    products: float
    trials: float
    data: str
    model: str
    scale: str
    epochs: str
    budget: str
    reason: str

    @property
    def row_title(self) -> str:
        """The row's name for people."""
        return ROWS[self.row]

    @property
    def column_title(self) -> str:
        """The column's name for people."""
        return COLUMNS.get(self.column, self.column)


def cells_of(table: pd.DataFrame) -> list[Cell]:
    """The rows of a table of cells."""
    return [Cell(**{str(k): v for k, v in row.items()}) for row in table.to_dict("records")]
