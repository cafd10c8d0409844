"""What a run depends on: typed, range-checked settings, one dataclass a config group."""

import re
from dataclasses import dataclass, field, fields, replace

from hypergrad.config.checks import (
    ConfigError,
    a_budget,
    at_least,
    between,
    not_negative,
    one_of,
    positive,
)
from hypergrad.config.search_schema import (
    BaselineConfig,
    HypergradientDescentConfig,
    SearchConfig,
    TableConfig,
)
from hypergrad.core.budget import Budget

__all__ = [
    "HvpConfig",
    "DataConfig",
    "HypervarianceConfig",
    "MethodConfig",
    "ModelConfig",
    "OuterConfig",
    "ReverseConfig",
    "RunConfig",
]

STRATEGIES = ("auto", "loop", "vmap", "stacked", "fused", "compiled")


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
            at_least(f"data.{key}", getattr(self, key), 1)


@dataclass
class ModelConfig:
    """Which network, and which Hessian product suits it.

    `name` is one of `hypergrad.models.MODELS`, or `package.module:Class` for one's own; it is
    called with the image shape, the number of classes, and `options`.
    """

    name: str = "mlp"
    options: dict[str, float | int | bool] = field(default_factory=dict)
    hvp_strategy: str = "loop"

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("model.name is empty: name your network, as in mynets:SmallNet")
        one_of("model.hvp_strategy", self.hvp_strategy, STRATEGIES)


@dataclass
class HvpConfig:
    """Hessian products: `strategy` is None for what suits the network (`model.hvp_strategy`)."""

    strategy: str | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        if self.strategy is not None:
            one_of("hvp.strategy", self.strategy, STRATEGIES)
        if self.precision is not None:
            one_of("hvp.precision", self.precision, ("tf32", "bfloat16"))


@dataclass
class MethodConfig:
    """The inner problem, and how its schedule is learned.

    `name` is `shared` (values shared over windows of steps), `unshared` (a value for every inner
    step: of each kind's number only whether it is zero matters), or `hd` (hypergradient descent
    alone). `mode` is how hypergradients are computed; a kind with no values is zero, not learned.
    """

    name: str = "shared"
    mode: str = "forward"
    batch_size: int = 128
    validation_fraction: float = 0.05
    n_learning_rates: int = 5
    n_momenta: int = 1
    n_weight_decays: int = 1
    truncation: float = 0.0
    clip_gradient: float | None = 3.0
    clip_products: float | None = 100.0

    def __post_init__(self) -> None:
        one_of("method.name", self.name, ("shared", "unshared", "hd"))
        one_of("method.mode", self.mode, ("forward", "reverse"))
        for key, low in (("batch_size", 1), ("n_learning_rates", 1), ("n_momenta", 0)):
            at_least(f"method.{key}", getattr(self, key), low)
        at_least("method.n_weight_decays", self.n_weight_decays, 0)
        between("method.validation_fraction", self.validation_fraction, 0, 1, open_low=True)
        between("method.truncation", self.truncation, 0, 1)
        positive("method.clip_gradient", self.clip_gradient)
        positive("method.clip_products", self.clip_products)
        if self.mode == "reverse" and (self.truncation or self.clip_products is not None):
            raise ConfigError(
                "method.mode=reverse is exact: give method.truncation=0 method.clip_products=null"
            )
        if self.name == "unshared" and self.mode == "forward":
            raise ConfigError(
                "method.mode=forward would need a tangent for every inner step: method=unshared "
                "takes method.mode=reverse"
            )

    def counts(self, horizon: int) -> tuple[int, int, int]:
        """(N_alpha, N_beta, N_mu) for an inner run of `horizon` steps."""
        given = self.n_learning_rates, self.n_momenta, self.n_weight_decays
        if self.name == "unshared":
            a, b, m = (horizon if count else 0 for count in given)
            return a, b, m
        return given

    @property
    def learned(self) -> tuple[bool, bool, bool]:
        """Whether learning rate, momentum and weight decay are learned."""
        return self.n_learning_rates > 0, self.n_momenta > 0, self.n_weight_decays > 0


@dataclass
class OuterConfig:
    """The outer loop: sign descent from all-zero values."""

    steps: int = 10
    first_horizons: list[int] = field(default_factory=lambda: [1])
    learning_rate_step: float = 0.1
    momentum_step: float = 0.15
    weight_decay_step: float = 4e-4
    tolerance: float = 0.05
    patience: int | None = None

    def __post_init__(self) -> None:
        at_least("outer.steps", self.steps, 1)
        at_least("outer.patience", self.patience, 1)
        for horizon in self.first_horizons:
            at_least("outer.first_horizons", horizon, 1)
        for key in ("learning_rate_step", "momentum_step", "weight_decay_step"):
            positive(f"outer.{key}", getattr(self, key))
        between("outer.tolerance", self.tolerance, 0, 1)

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
class ReverseConfig:
    """Reverse mode: see `hypergrad.differentiation.reverse.ReverseOptions`."""

    memory_gb: float = 2.0
    parts: int = 1

    def __post_init__(self) -> None:
        positive("reverse.memory_gb", self.memory_gb)
        at_least("reverse.parts", self.parts, 1)


@dataclass
class HypervarianceConfig:
    """What Figure 2 repeats under perturbation: see its driver."""

    perturbations: list[str] = field(
        default_factory=lambda: ["weights", "learning_rate", "train", "validation", "all"]
    )
    size: float = 0.01
    steps: int = 400
    windows: int = 10
    learning_rate: float = 0.05
    momentum: float = 0.0
    weight_decay: float = 0.0
    validation_batches: int = 1

    def __post_init__(self) -> None:
        kinds = ("weights", "learning_rate", "train", "validation", "all")
        if not self.perturbations:
            raise ConfigError(f"hypervariance.perturbations is empty: name some of {kinds}")
        for name in self.perturbations:
            one_of("hypervariance.perturbations", name, kinds)
        if len(set(self.perturbations)) < len(self.perturbations):
            raise ConfigError("hypervariance.perturbations names one twice: name each once")
        between("hypervariance.size", self.size, 0, 1)
        for key in ("steps", "windows", "validation_batches"):
            at_least(f"hypervariance.{key}", getattr(self, key), 1)
        if self.windows > self.steps:
            raise ConfigError(
                f"hypervariance.windows={self.windows}: at most hypervariance.steps={self.steps}"
            )
        for key in ("learning_rate", "momentum", "weight_decay"):
            not_negative(f"hypervariance.{key}", getattr(self, key))


@dataclass
class RunConfig:
    """Everything that a run depends on."""

    name: str = "quickstart"
    driver: str = "learn"
    parts: dict[str, list[str]] = field(default_factory=dict)
    scale_name: str = "paper"
    seed: int = 0
    repeats: int = 1
    epochs: int = 50
    rows_per_epoch: int = 1
    device: str = "auto"
    precision: str = "float32"
    threads: int | None = None
    replay: str = "auto"
    jobs: int = 1
    outputs: str = "outputs"
    checkpoint_seconds: float = 60.0
    budget: str | None = None
    test_curves: bool = True
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    hvp: HvpConfig = field(default_factory=HvpConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    outer: OuterConfig = field(default_factory=OuterConfig)
    reverse: ReverseConfig = field(default_factory=ReverseConfig)
    hypervariance: HypervarianceConfig = field(default_factory=HypervarianceConfig)
    hd: HypergradientDescentConfig = field(default_factory=HypergradientDescentConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    table: TableConfig = field(default_factory=TableConfig)

    def __post_init__(self) -> None:
        one_of("driver", self.driver, ("learn", "hypervariance", "search", "table"))
        for key in ("repeats", "epochs", "rows_per_epoch", "jobs"):
            at_least(key, getattr(self, key), 1)
        at_least("seed", self.seed, 0)
        at_least("threads", self.threads, 1)
        one_of("precision", self.precision, ("float32", "float64"))
        one_of("replay", self.replay, ("auto", "always", "never"))
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"device={self.device}: use auto, cpu, cuda or cuda:N")
        not_negative("checkpoint_seconds", self.checkpoint_seconds)
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ConfigError(f"name={self.name}: it names a folder; use letters, digits, - and _")
        if self.driver == "learn" and self.jobs > 1 and not self.parts:
            raise ConfigError(
                f"jobs={self.jobs}: this experiment's steps follow one another; use threads=N"
            )
        if self.driver == "learn" and self.method.name == "unshared":
            if any(horizon < self.epochs for horizon in self.outer.first_horizons):
                raise ConfigError(
                    "method=unshared has a value for every inner step, so all outer steps need the "
                    "same horizon: outer.first_horizons=[]"
                )
        self._check_curvature()
        if self.budget is not None:
            a_budget("budget", self.budget)
        if self.driver == "search":
            self._check_search()

    def _check_curvature(self) -> None:
        given, reverse = self.hvp, self.method.mode == "reverse"
        if given.precision is not None and (reverse or self.driver == "hypervariance"):
            raise ConfigError(
                "reverse mode has exact products: hvp.precision=null, or method.mode=forward"
            )
        if given.precision is not None and self.method.name == "hd":
            raise ConfigError(
                "hypergradient descent has no Hessian products: hvp.precision=null, or "
                "method=shared"
            )
        if given.precision is not None and self.precision != "float32":
            raise ConfigError(
                f"hvp.precision={given.precision} is for precision=float32, not "
                f"{self.precision}: use hvp.precision=null"
            )

    def _check_search(self) -> None:
        search = self.search
        if search.kind == "grid" and self.budget is not None:
            raise ConfigError("a grid is searched whole: budget=null, or search=random")
        if search.kind != "grid" and self.budget is None and search.trials is None:
            raise ConfigError("a search needs an end: give search.trials=100 or budget=2h")
        if search.kind == "grid":
            known = {item.name for item in fields(BaselineConfig)}
            for key, values in search.grid.items():
                assert key in known
                for value in values:
                    replace(self.baseline, **{key: value})  # checks the range

    @property
    def has_parts(self) -> bool:
        """Whether the run is made of runs."""
        return bool(self.parts) or self.driver == "table"

    @property
    def hvp_strategy(self) -> str:
        """How Hessian products are computed: what is asked for, or what suits the network."""
        return self.hvp.strategy or self.model.hvp_strategy

    @property
    def allowance(self) -> Budget | None:
        """The budget of a search, for each of its seeds."""
        return None if self.budget is None else Budget.parse(self.budget)

    @property
    def seeds(self) -> list[int]:
        """The seeds of the run's repeats."""
        return list(range(self.seed, self.seed + self.repeats))
