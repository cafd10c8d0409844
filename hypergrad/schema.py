"""What a run depends on: typed, range-checked settings, one dataclass a config group."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = [
    "BaselineConfig",
    "ConfigError",
    "DataConfig",
    "GreedyConfig",
    "MethodConfig",
    "ModelConfig",
    "OuterConfig",
    "RunConfig",
]


class ConfigError(ValueError):
    """A configuration that cannot be run; its text is one line that names the remedy."""


@dataclass
class DataConfig:
    """Which images. See `hypergrad.data.load` for what each field does."""

    name: str = "digits"
    root: str | None = None
    path: str | None = None
    train_size: int | None = None
    test_size: int | None = None
    image_size: int | None = None
    augment: bool = False

    def __post_init__(self) -> None:
        for key in ("train_size", "test_size", "image_size"):
            _at_least(f"data.{key}", getattr(self, key), 1)


@dataclass
class ModelConfig:
    """Which network, and which Hessian product suits it.

    `name` is one of `hypergrad.models.MODELS`, or `package.module:Class` for one's own; it is
    called with the image shape, the number of classes, and `options`.
    """

    name: str = "mlp"
    options: dict[str, float | int | bool] = field(default_factory=dict)
    curvature: str = "loop"

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("model.name is empty: name your network, as in mynets:SmallNet")
        _one_of("model.curvature", self.curvature, ("loop", "vmap"))


@dataclass
class MethodConfig:
    """The inner problem and how its hypergradients are computed."""

    batch_size: int = 128
    validation: float = 0.05
    learning_rates: int = 5
    momenta: int = 1
    weight_decays: int = 1
    truncation: float = 0.0
    clip_gradient: float | None = 3.0
    clip_products: float | None = 100.0

    def __post_init__(self) -> None:
        for key in ("batch_size", "learning_rates", "momenta", "weight_decays"):
            _at_least(f"method.{key}", getattr(self, key), 1)
        _between("method.validation", self.validation, 0, 1, open_low=True)
        _between("method.truncation", self.truncation, 0, 1)
        _positive("method.clip_gradient", self.clip_gradient)
        _positive("method.clip_products", self.clip_products)

    @property
    def counts(self) -> tuple[int, int, int]:
        """(N_alpha, N_beta, N_mu)."""
        return self.learning_rates, self.momenta, self.weight_decays


@dataclass
class OuterConfig:
    """The outer loop: sign descent from all-zero values."""

    steps: int = 10
    first_horizons: list[int] = field(default_factory=lambda: [1])
    learning_rate_step: float = 0.1
    momentum_step: float = 0.15
    weight_decay_step: float = 4e-4
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        _at_least("outer.steps", self.steps, 1)
        for horizon in self.first_horizons:
            _at_least("outer.first_horizons", horizon, 1)
        for key in ("learning_rate_step", "momentum_step", "weight_decay_step"):
            _positive(f"outer.{key}", getattr(self, key))
        _between("outer.tolerance", self.tolerance, 0, 1)

    @property
    def step_sizes(self) -> tuple[float, float, float]:
        """Initial gamma of each kind."""
        return self.learning_rate_step, self.momentum_step, self.weight_decay_step

    def horizon(self, outer_step: int, epochs: int) -> int:
        """Epochs of the inner run of an outer step: the first ones may be shorter."""
        if outer_step < len(self.first_horizons):
            return min(self.first_horizons[outer_step], epochs)
        return epochs


@dataclass
class GreedyConfig:
    """Hypergradient descent, the comparison."""

    enabled: bool = True
    learning_rate: float = 0.2
    clip: float = 1.0

    def __post_init__(self) -> None:
        _positive("greedy.learning_rate", self.learning_rate)
        _positive("greedy.clip", self.clip)


@dataclass
class BaselineConfig:
    """Plain SGD with a common setting, the other comparison.

    `schedule` is `constant`, `multistep` (decay by `factor` at each of `milestones`, fractions of
    the run) or `cosine` (annealing to zero).
    """

    enabled: bool = True
    schedule: str = "multistep"
    learning_rate: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: list[float] = field(default_factory=lambda: [0.3, 0.6, 0.8])
    factor: float = 0.2

    def __post_init__(self) -> None:
        _one_of("baseline.schedule", self.schedule, ("constant", "multistep", "cosine"))
        _positive("baseline.learning_rate", self.learning_rate)
        _between("baseline.momentum", self.momentum, 0, 1)
        _not_negative("baseline.weight_decay", self.weight_decay)
        _positive("baseline.factor", self.factor)
        for milestone in self.milestones:
            _between("baseline.milestones", milestone, 0, 1)


@dataclass
class RunConfig:
    """Everything that a run depends on."""

    name: str = "quickstart"
    scale_name: str = "paper"
    seed: int = 0
    repeats: int = 1
    epochs: int = 50
    rows_per_epoch: int = 1
    device: str = "auto"
    precision: str = "float32"
    threads: int | None = None
    outputs: str = "outputs"
    checkpoint_seconds: float = 60.0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    outer: OuterConfig = field(default_factory=OuterConfig)
    greedy: GreedyConfig = field(default_factory=GreedyConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)

    def __post_init__(self) -> None:
        for key in ("repeats", "epochs", "rows_per_epoch"):
            _at_least(key, getattr(self, key), 1)
        _at_least("seed", self.seed, 0)
        _at_least("threads", self.threads, 1)
        _one_of("precision", self.precision, ("float32", "float64"))
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"device={self.device}: use auto, cpu, cuda or cuda:N")
        _not_negative("checkpoint_seconds", self.checkpoint_seconds)
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ConfigError(f"name={self.name}: it names a folder; use letters, digits, - and _")

    @property
    def seeds(self) -> list[int]:
        """The seeds of the run's repeats."""
        return list(range(self.seed, self.seed + self.repeats))


def _at_least(key: str, value: int | None, low: int) -> None:
    if value is not None and value < low:
        raise ConfigError(f"{key}={value}: must be at least {low}")


def _positive(key: str, value: float | None) -> None:
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{key}={value}: must be above zero and finite")


def _not_negative(key: str, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ConfigError(f"{key}={value}: must be zero or more, and finite")


def _between(key: str, value: float, low: float, high: float, open_low: bool = False) -> None:
    if not (low < value < high or (value == low and not open_low)):
        raise ConfigError(f"{key}={value}: must be in {'(' if open_low else '['}{low}, {high})")


def _one_of(key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}={value}: use one of {', '.join(allowed)}")
