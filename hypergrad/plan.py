"""What a run is going to do, before it does it: parts, steps, tangents, memory."""

from typing import NamedTuple

from hypergrad.schema import RunConfig

__all__ = ["RETRAININGS", "Part", "Plan", "plan"]

RETRAININGS = ("ours_retrained", "hd_retrained", "sgd")


class Part(NamedTuple):
    """One inner run.

    Attributes:
        method: As in `inner.csv`.
        outer_step: 0 for all but `ours`.
        steps: Inner steps.
        gradients: Cost of a step in gradient evaluations; a Hessian product counts as two.
    """

    method: str
    outer_step: int
    steps: int
    gradients: float

    @property
    def cost(self) -> float:
        """Gradient evaluations of the whole part."""
        return self.steps * self.gradients


class Plan(NamedTuple):
    """The parts of one repeat, in order, and what they need.

    Attributes:
        parts: Inner runs; a run that converges early skips some.
        columns: `N`, tangent columns.
        tangent_bytes: Peak memory of tangents and their products; the same for any horizon.
    """

    parts: list[Part]
    columns: int
    tangent_bytes: int

    def cost_before(self, method: str, outer_step: int) -> float:
        """Gradient evaluations planned before that part begins."""
        cost = 0.0
        for part in self.parts:
            if (part.method, part.outer_step) == (method, outer_step):
                return cost
            cost += part.cost
        raise ValueError(f"no part {method} {outer_step} in this plan")

    @property
    def cost(self) -> float:
        """Gradient evaluations of one repeat."""
        return sum(part.cost for part in self.parts)


def plan(config: RunConfig, n_train: int, parameters: int) -> Plan:
    """Lay out one repeat of a run.

    Args:
        config: The run's configuration.
        n_train: Training images, before the validation split.
        parameters: `D`.

    Returns:
        Its parts and needs.
    """
    method, outer = config.method, config.outer
    kept = n_train - max(1, round(n_train * method.validation))
    split_steps, full_steps = kept // method.batch_size, n_train // method.batch_size
    counts = method.counts
    # A window's column is zero until it begins, and untouched while its kind is truncated.
    products = sum((count + 1) / 2 for count in counts) * (1 - method.truncation)
    parts = []
    for step in range(outer.steps):
        steps = outer.horizon(step, config.epochs) * split_steps
        parts.append(Part("ours", step, steps, 1 + 2 * products * (step > 0)))
    if config.greedy.enabled:
        parts.append(Part("hd", 0, config.epochs * split_steps, 2.0))
    for name in RETRAININGS:
        if not (name == "hd_retrained" and not config.greedy.enabled) and not (
            name == "sgd" and not config.baseline.enabled
        ):
            parts.append(Part(name, 0, config.epochs * full_steps, 1.0))
    size = 8 if config.precision == "float64" else 4
    # Z and C before and after a step, and the products.
    return Plan(parts, sum(counts), 5 * sum(counts) * parameters * size)
