"""What a run depends on: one dataclass a config group, the rules of a setting beside its type.

There are no defaults here: `conf/` states each once, and a setting that is not there is an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated

from hypergrad.config.checks import (
    ConfigError,
    a_budget,
    at_least,
    at_most,
    between,
    check,
    distinct,
    matches,
    not_negative,
    one_of,
    positive,
)
from hypergrad.config.improve_schema import ImproveConfig
from hypergrad.config.optimizer_schema import HyperparameterConfig, OptimizerConfig
from hypergrad.config.search_schema import (
    BaselineConfig,
    HypergradientDescentConfig,
    SearchConfig,
    TableConfig,
)
from hypergrad.core.budget import Budget

__all__ = [
    "DataConfig",
    "HvpConfig",
    "HyperparameterConfig",
    "HypervarianceConfig",
    "ImproveConfig",
    "MethodConfig",
    "ModelConfig",
    "OptimizerConfig",
    "OuterConfig",
    "ReverseConfig",
    "RunConfig",
    "TrustConfig",
]

Count = Annotated[int, at_least(1), at_most(10**9)]
# Each is laid out, or written down, before the first step: none of them may be without end.
Repeats = Annotated[int, at_least(1), at_most(10_000)]
OuterSteps = Annotated[int, at_least(1), at_most(100_000)]
Pixels = Annotated[int, at_least(1), at_most(4096)]
Few = Annotated[int, at_least(0), at_most(1000)]
Positive = Annotated[float, positive]
NotNegative = Annotated[float, not_negative]
Strategy = Annotated[str, one_of("auto", "loop", "vmap", "stacked", "fused")]
Figure = Annotated[
    str, one_of("fig1", "fig2", "fig2_mse", "fig3", "fig4", "fig5", "improve", "table1")
]
Perturbation = Annotated[str, one_of("weights", "learning_rate", "train", "validation", "all")]
Threads = Annotated[str, matches(r"auto|[1-9]\d*", "use auto, or a number of threads")]
Device = Annotated[str, matches(r"auto|cpu|mps|cuda(:\d+)?", "use auto, cpu, mps, cuda or cuda:N")]
Folder = Annotated[
    str, matches(r"\w[\w.-]{0,199}", "it names a folder; use letters, digits, - and _")
]


@dataclass
class DataConfig:
    """Which images. See `hypergrad.data.load` for what each field does."""

    name: str
    root: str | None
    path: str | None
    train_size: Count | None
    test_size: Count | None
    image_size: Pixels | None
    augment: bool


@dataclass
class ModelConfig:
    """Which network, and which Hessian product suits it, in double precision maybe another.

    `name` is one of `hypergrad.models.MODELS`, or `package.module:Class` for one's own; it is
    called with the image shape, the number of classes, and `options`.
    """

    name: str
    options: dict[str, float | int | bool]
    hvp_strategy: Strategy
    hvp_strategy_float64: Strategy | None = None


@dataclass
class HvpConfig:
    """Hessian products: `strategy` is None for what suits the network and its precision."""

    strategy: Strategy | None
    precision: Annotated[str, one_of("tf32", "bfloat16")] | None


@dataclass
class MethodConfig:
    """The inner problem, and how its schedule is learned.

    `name` is `shared` (values shared over windows of steps), `unshared` (a value for every inner
    step: of each count only whether it is zero matters), or `hd` (hypergradient descent alone).
    `mode` is how hypergradients are computed; `auto` is the cheaper one. The gradient is clipped
    elementwise (`clip_gradient`) or by its norm (`clip_norm`).
    `first_horizons` is what `outer.first_horizons` is when nothing is said.
    """

    name: Annotated[str, one_of("shared", "unshared", "hd")]
    mode: Annotated[str, one_of("forward", "reverse", "auto")]
    batch_size: Count
    validation_fraction: Annotated[float, between(0, 1, "()")]
    truncation: Annotated[float, between(0, 1)]
    clip_gradient: Positive | None
    clip_norm: Positive | None
    clip_products: Positive | None
    first_horizons: list[Count]


@dataclass
class OuterConfig:
    """The outer loop: a descent (`signs`, `averaged`) from the starting values.

    With `trajectories=K`, each trains K times, with other weights, order and split, and moves what
    stands out. The best outer step is selected by validation accuracy or loss. With `confirm` the
    so many best are trained again, `confirmations` times each, and the best by mean loss is taken.
    """

    steps: OuterSteps
    first_horizons: list[Count]
    tolerance: Annotated[float, between(0, 1)]
    patience: Count | None
    select: Annotated[str, one_of("accuracy", "loss")] = "accuracy"
    confirm: Few = 0
    confirmations: Annotated[int, at_least(1), at_most(1000)] = 3
    trajectories: Annotated[int, at_least(1), at_most(1000)] = 1
    descent: Annotated[str, one_of("signs", "averaged")] = "signs"


@dataclass
class TrustConfig:
    """What else tells how far to trust hypergradients.

    `sign_agreement` trains so many further trajectories an outer step, which differ in rounding.
    """

    sign_agreement: Few


@dataclass
class ReverseConfig:
    """Reverse mode: see `hypergrad.differentiation.reverse.ReverseOptions`."""

    memory_gb: Positive
    validation_chunks: Count
    clip_adjoints: Positive | None
    keep_graphs: bool


@dataclass
class HypervarianceConfig:
    """What Figure 2 repeats under perturbation: see its driver."""

    perturbations: Annotated[list[Perturbation], distinct]
    size: Annotated[float, between(0, 1)]
    steps: Annotated[int, at_least(1), at_most(10**6)]
    windows: Annotated[int, at_least(1), at_most(10**6)]
    learning_rate: NotNegative
    momentum: NotNegative
    weight_decay: NotNegative
    validation_batches: Count


@dataclass
class RunConfig:
    """Everything that a run depends on.

    `experiment` is the file under `conf/experiment` that it was composed from, and `name` that of
    the folder of its runs; `compose` writes both. What it is, `driver`, `figures` and
    `table_column` say.
    """

    experiment: str
    name: Folder
    scale: Annotated[str, one_of("full", "smoke")]
    figures: list[Figure]
    table_column: str | None
    driver: Annotated[str, one_of("learn", "improve", "hypervariance", "search", "table")]
    members: dict[str, list[str]]
    seed: Annotated[int, at_least(0), at_most(2**62)]
    repeats: Repeats
    smoke_repeats: Repeats
    epochs: Count
    rows_per_epoch: Count
    device: Device
    precision: Annotated[str, one_of("float32", "float64")]
    threads: Threads
    replay: Annotated[str, one_of("auto", "always", "never")]
    selftest: Annotated[str, one_of("on", "off")]
    jobs: Count
    executor: Annotated[str, one_of("local", "ray")]
    gpus: NotNegative
    outputs: str
    checkpoint_seconds: NotNegative
    budget: Annotated[str, a_budget] | None
    test_curves: bool
    data: DataConfig
    model: ModelConfig
    hvp: HvpConfig
    optimizer: OptimizerConfig
    hyperparameters: dict[str, HyperparameterConfig]
    method: MethodConfig
    outer: OuterConfig
    trust: TrustConfig
    reverse: ReverseConfig
    hypervariance: HypervarianceConfig
    hd: HypergradientDescentConfig
    baseline: BaselineConfig
    improve: ImproveConfig
    search: SearchConfig
    table: TableConfig

    def __post_init__(self) -> None:
        check(self, RunConfig)
        for conflict in _conflicts(self):
            raise ConfigError(conflict)

    @property
    def is_multirun(self) -> bool:
        """Whether the run is made of runs."""
        return bool(self.members) or self.driver == "table"

    @property
    def is_plain_sgd(self) -> bool:
        """Whether the optimiser is the paper's, with the paper's hyperparameters for everything."""
        plain = self.optimizer.name == "sgd" and not self.optimizer.options
        return plain and list(self.hyperparameters) == ["learning_rate", "momentum", "weight_decay"]

    @property
    def hvp_strategy(self) -> str:
        """How Hessian products are computed: what is asked for, or suits network and precision."""
        double = self.model.hvp_strategy_float64 if self.precision == "float64" else None
        return self.hvp.strategy or double or self.model.hvp_strategy

    @property
    def allowance(self) -> Budget | None:
        """The budget of a search, for each of its seeds."""
        return None if self.budget is None else Budget.parse(self.budget)

    @property
    def seeds(self) -> list[int]:
        """The seeds of the run's repeats."""
        return list(range(self.seed, self.seed + self.repeats))


def _conflicts(config: RunConfig) -> Iterator[str]:
    """Yield what settings that are fine one by one forbid each other."""
    method, hvp, search = config.method, config.hvp, config.search
    learns, reverse = config.driver == "learn", method.mode == "reverse"
    if reverse and method.clip_products is not None:
        yield (
            "method.mode=reverse has no products to clip: method.clip_products=null, and perhaps "
            "reverse.clip_adjoints"
        )
    if method.mode == "forward" and config.reverse.clip_adjoints is not None:
        yield "reverse.clip_adjoints is for method.mode=reverse: there are none in forward mode"
    if method.clip_gradient is not None and method.clip_norm is not None:
        yield (
            f"method.clip_gradient={method.clip_gradient:g} and method.clip_norm="
            f"{method.clip_norm:g}: one clip at most, set the other to null"
        )
    learned = {name: each for name, each in config.hyperparameters.items() if each.count}
    others = [name for name, each in learned.items() if each.basis != "windows" or each.warmup]
    if learns and others and method.truncation:
        yield (
            f"method.truncation={method.truncation:g} leaves out the first steps of windows, and "
            f"{', '.join(others)} has another basis: method.truncation=0"
        )
    if not config.is_plain_sgd and (method.name == "hd" or (learns and config.hd.enabled)):
        yield (
            "hypergradient descent moves SGD's three values from zero: hd.enabled=false and "
            "another method, or optimizer=sgd"
        )
    if not config.is_plain_sgd and config.driver in ("hypervariance", "search"):
        yield f"{config.experiment} is about SGD: optimizer=sgd, with its three hyperparameters"
    if method.name == "unshared" and method.mode == "forward":
        yield (
            "method.mode=forward would need a tangent for every inner step: method=unshared takes "
            "method.mode=reverse"
        )
    shortened = any(horizon < config.epochs for horizon in config.outer.first_horizons)
    if learns and method.name == "unshared" and shortened:
        yield (
            "method=unshared has a value for every inner step, so all outer steps need the same "
            "horizon: outer.first_horizons=[]"
        )
    if config.outer.trajectories > 1:
        yield from _trajectory_conflicts(config)
    if config.driver == "improve" and len(config.improve.gate) != 2:
        yield f"improve.gate={config.improve.gate}: give two, the lower one first"
    if learns and config.jobs > 1 and not config.members:
        yield f"jobs={config.jobs}: this experiment's steps follow one another; use threads=N"
    if learns and config.executor != "local" and not config.members:
        yield f"executor={config.executor}: this experiment's steps follow one another; drop it"
    if config.hypervariance.windows > config.hypervariance.steps:
        yield (
            f"hypervariance.windows={config.hypervariance.windows}: at most "
            f"hypervariance.steps={config.hypervariance.steps}"
        )
    if hvp.precision is not None and (reverse or config.driver == "hypervariance"):
        yield "reverse mode has exact products: hvp.precision=null, or method.mode=forward"
    if hvp.precision is not None and method.name == "hd":
        yield (
            "hypergradient descent has no Hessian products: hvp.precision=null, or method=shared"
        )
    if hvp.precision is not None and config.precision != "float32":
        yield (
            f"hvp.precision={hvp.precision} is for precision=float32, not {config.precision}: use "
            "hvp.precision=null"
        )
    if search.kind != "ours" and config.driver == "hypervariance":
        yield f"search={search.kind}: {config.experiment} searches nothing; drop it"
    if config.driver == "search":
        if search.kind == "ours":
            yield "driver=search: say what is searched, as in search=random"
        elif search.kind == "grid" and config.budget is not None:
            yield "a grid is searched whole: budget=null, or search=random"
        elif search.kind != "grid" and config.budget is None and search.trials is None:
            yield "a search needs an end: give search.trials=100 or budget=2h"
        if search.kind == "tpe" and find_spec("optuna") is None:
            yield "search=tpe needs Optuna: in hypergrad's checkout, pip install -e '.[optuna]'"
        if search.kind == "hyperband" and search.min_epochs > config.epochs:
            yield f"search.min_epochs={search.min_epochs}: at most epochs={config.epochs}"


def _trajectory_conflicts(config: RunConfig) -> Iterator[str]:
    """What several trajectories an outer step do not go with."""
    given = f"outer.trajectories={config.outer.trajectories}"
    if config.driver == "improve":
        yield f"{given}: hypergrad improve has a number of its own, improve.trajectories"
    elif config.driver in ("hypervariance", "search") or config.method.name == "hd":
        yield f"{given}: there are no outer steps here; drop it"
    if config.trust.sign_agreement:
        yield (
            f"{given} with trust.sign_agreement={config.trust.sign_agreement}: trajectories differ "
            "in more than rounding already; give one of the two"
        )
