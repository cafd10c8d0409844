"""The configured mode against differences of whole ordinary trainings, on the run's own data.

The trainings are those of `core.plain_training`: the plain module, `backward`, `torch.optim`. They
share nothing with what they judge but the network and the data, and draw the same random numbers
each time. Then the run's own precision is held against float64.
"""

from typing import NamedTuple

import torch

from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.plain_training import PlainTraining
from hypergrad.core.schedule import Schedule
from hypergrad.data import Dataset, Minibatches, in_batches
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.result import Hypergradients
from hypergrad.drivers.context import computing
from hypergrad.drivers.inner_optimizer import inner_optimizer, learned_at
from hypergrad.drivers.scalar_differences import AGREE, DISAGREE, judge

__all__ = ["CheckedValue", "GradientCheck", "compare"]

BATCH = 16  # many trainings are needed, and short ones show a wrong term as well
VALIDATION = 200
SAME_WEIGHTS = 1e-9  # relative, float64; another training shows at 1e-3
TESTED_HERE = False  # the start-up test would refuse what is to be shown


class CheckedValue(NamedTuple):
    """One hyperparameter's hypergradient, by the configured mode and by differences.

    Attributes:
        name: Kind and index.
        ours: By the configured mode, summed over its window, in float64.
        difference: Of plain trainings, likewise; NaN if there is none.
        verdict: See `scalar_differences`.
        reason: Why it cannot be told, or empty.
        own: By the configured mode in the run's own precision.
    """

    name: str
    ours: float
    difference: float
    verdict: str
    reason: str
    own: float

    @property
    def error(self) -> float:
        """Of `ours`, relative to the difference."""
        return _relative(self.ours, self.difference)

    @property
    def own_error(self) -> float:
        """Of `own`, relative to `ours`."""
        return _relative(self.own, self.ours)

    @property
    def keeps_sign(self) -> bool:
        """Whether the run's own precision has float64's sign."""
        return (self.own > 0) == (self.ours > 0) and (self.own < 0) == (self.ours < 0)


class GradientCheck(NamedTuple):
    """What a check has found.

    Attributes:
        values: Every value of the schedule.
        weights_error: How far the weights of the differentiated training end from those of the
            plain one, relative, in float64.
    """

    values: list[CheckedValue]
    weights_error: float

    @property
    def same_training(self) -> bool:
        """Whether what is differentiated is the plain training."""
        return self.weights_error <= SAME_WEIGHTS

    @property
    def passes(self) -> bool:
        """Whether nothing disagrees, and something could be told."""
        verdicts = [value.verdict for value in self.values]
        return self.same_training and AGREE in verdicts and DISAGREE not in verdicts


def compare(config: RunConfig, model: FlatModel, data: Dataset, steps: int) -> GradientCheck:
    """Compute the hypergradients of a middling schedule by the configured mode and by differences.

    Args:
        config: Method, numbers of values, gradient clip, and curvature strategy.
        model: The network, in the run's precision.
        data: The images, likewise.
        steps: Inner steps, at least the number of values of any kind.

    Returns:
        Every value, judged.

    Raises:
        ValueError: If a kind has more values than there are steps, or the configured mode does not
            fit the network.
    """
    devices = [data.train.images.device] if data.train.images.is_cuda else []
    with computing(config), torch.random.fork_rng(devices):
        return _compared(config, model, data, steps)


def _compared(config: RunConfig, model: FlatModel, data: Dataset, steps: int) -> GradientCheck:
    optimizer, schedule = inner_optimizer(config), _middling(config, steps)
    precise, images = model.to(torch.float64), data.to(dtype=torch.float64)
    exact = _differentiated(config, precise, images, schedule, steps, optimizer)
    ours = _sums(exact)
    own = ours
    if config.precision != "float64":
        own = _sums(_differentiated(config, model, data, schedule, steps, optimizer))
    batches, validation = _batches(config, images, steps)

    def trained(values: Schedule) -> PlainTraining:
        training = PlainTraining(precise.module, precise.objective, optimizer, values, steps)
        _reseed(config)
        for step, batch in enumerate(batches):
            training.step(step, batch)
        return training

    found = []
    for place, (name, index, value) in enumerate(schedule.columns()):

        def loss(other: float, place: int = place) -> float:
            flat = list(schedule.flat)
            flat[place] = other
            values = Schedule.from_flat(flat, schedule.bases)
            return trained(values).validation_loss(validation)

        slope, verdict, reason = judge(loss, value, ours[place])
        numbers = ours[place], slope, verdict, reason, own[place]
        found.append(CheckedValue(f"{name}[{index}]", *numbers))
    plain = trained(schedule).flat()
    apart = torch.linalg.vector_norm(exact.state.theta - plain) / torch.linalg.vector_norm(plain)
    return GradientCheck(found, float(apart))


def _batches(config: RunConfig, data: Dataset, steps: int) -> tuple[list[Batch], list[Batch]]:
    """Minibatches of training, and validation data in two batches."""
    minibatches = Minibatches(data.train, min(BATCH, len(data.train)), (config.seed, "check"))
    some = data.test.take(torch.arange(min(VALIDATION, len(data.test))))
    return [minibatches.at(step) for step in range(steps)], list(in_batches(some, VALIDATION // 2))


def _differentiated(
    config: RunConfig,
    model: FlatModel,
    data: Dataset,
    schedule: Schedule,
    steps: int,
    optimizer: InnerOptimizer,
) -> Hypergradients:
    """By the configured mode, in the precision of the model."""
    batches, validation = _batches(config, data, steps)
    given = model, model.theta(), batches.__getitem__, validation, schedule, steps
    _reseed(config)
    if config.method.mode == "reverse":
        options = reverse.ReverseOptions(memory_gb=config.reverse.memory_gb, self_test=TESTED_HERE)
        return reverse.hypergradients(*given, options, optimizer=optimizer)
    single = model.theta().dtype == torch.float32
    options = ForwardOptions(
        strategy=config.hvp_strategy,
        precision=config.hvp.precision if single else None,
        self_test=TESTED_HERE,
    )
    return forward.hypergradients(*given, options, optimizer=optimizer)


def _sums(found: Hypergradients) -> list[float]:
    """Derivatives with respect to every value: hypergradients are means over their windows."""
    return [h * n for h, n in zip(found.values, found.contributing, strict=True)]


def _reseed(config: RunConfig) -> None:
    """Let the next training draw the random numbers (of dropout) that every other draws."""
    torch.manual_seed(config.seed)


def _middling(config: RunConfig, steps: int) -> Schedule:
    """Values in the middle of where training goes: none is zero, where most derivatives are."""
    middle = {"learning_rate": 0.05, "momentum": 0.5, "weight_decay": 1e-3}
    values, bases = {}, {}
    for each in learned_at(config, steps):
        low, high = each.range
        usual = min(max(middle.get(each.target, 0.1), low), high)
        own = each.coefficients
        zero = not any(own)
        own = tuple(value or usual for value in own)
        if zero and config.is_plain_sgd and each.target == "learning_rate":
            own = tuple(own[0] / (i * 5 // len(own) + 1) for i in range(len(own)))
        values[each.name], bases[each.name] = own, each.over
    return Schedule(values, bases)


def _relative(value: float, reference: float) -> float:
    return 0.0 if value == reference else abs(value - reference) / max(abs(reference), 1e-300)
