"""The user's problem: whatever is trained, its hypergradients are those of an ordinary loop."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
import unrolled
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from unrolled import Coefficients

from hypergrad.core import losses
from hypergrad.core.basis import Hats, Windows
from hypergrad.core.batches import MicroBatches, example_count
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.objective import Objective, accuracy
from hypergrad.core.rules import adamw
from hypergrad.data.sources import TensorBatches, with_noise
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.result import Hypergradients
from hypergrad.differentiation.reverse import ReverseOptions

RELATIVE = 1e-9  # float64 sums in another order: see test_general.py
HORIZON = 7
BATCH = 12

Values = Mapping[str, Tensor]
Batch = object
Loss = Callable[..., object]

RATES = (0.02, 0.01, 0.015)  # three hats, their knots at whole steps
OPTIMIZER = {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3, "weight_decay": 0.01}


class Case(NamedTuple):
    """A user's problem.

    Attributes:
        module: Makes the network.
        loss: As the library gets it.
        batch_at: Of every step.
        validation: Batches, of different size.
        learned: Values of the loss, two windows each.
        validation_loss: If it is another one.
        metric: If there is one.
        plain: The loss as the oracle gets it, if written out again.
        plain_module: Likewise.
    """

    module: Callable[[], nn.Module]
    loss: Loss
    batch_at: Callable[[int], Batch]
    validation: Sequence[Batch]
    learned: Mapping[str, tuple[float, float]] = {}
    validation_loss: Loss | None = None
    metric: Callable[..., Tensor] | None = None
    plain: Loss | None = None
    plain_module: Callable[[], nn.Module] | None = None


# Both sides


def ours(case: Case, mode: str) -> tuple[FlatModel, Hypergradients]:
    model = FlatModel(case.module(), Objective(case.loss, case.validation_loss, case.metric))
    declared = (
        Hyperparameter("learning_rate", Hats(3), RATES),
        *(Hyperparameter(name, 1, value) for name, value in OPTIMIZER.items()),
        *(Hyperparameter(name, Windows(2), start) for name, start in case.learned.items()),
    )
    optimizer = InnerOptimizer(adamw(), declared)
    given = model, model.theta(), case.batch_at, case.validation, optimizer.start(), HORIZON
    if mode == "reverse":
        return model, reverse.hypergradients(*given, ReverseOptions(), optimizer)
    return model, forward.hypergradients(*given, ForwardOptions(strategy=mode), optimizer=optimizer)


def counted(batch: Batch) -> Batch:
    """A batch as the oracle wants it: its first entry has a row an example."""
    if isinstance(batch, MicroBatches):
        return [counted(part) for part in batch]
    return torch.empty(example_count(batch)), batch


def scalar(loss: Loss) -> Callable[..., Tensor]:
    def value(module: Callable, batch: tuple, values: Values) -> Tensor:
        result = loss(module, batch[1], values)
        return result[0] if isinstance(result, tuple) else result

    return value


def theirs(case: Case) -> unrolled.Unrolled:
    plain = case.plain or case.loss
    own = {
        name: Coefficients((value,), unrolled.windows(1), name) for name, value in OPTIMIZER.items()
    }
    for name, start in case.learned.items():
        own[name] = Coefficients(start, unrolled.windows(2), name)
    return unrolled.unrolled(
        (case.plain_module or case.module)(),
        scalar(plain),
        scalar(case.validation_loss or plain),
        lambda step: counted(case.batch_at(step)),
        [counted(batch) for batch in case.validation],
        unrolled.adamw(),
        {"learning_rate": Coefficients(RATES, unrolled.hats(3), "learning_rate"), **own},
        HORIZON,
        defaults=adamw().defaults,
    )


# Handwritten digits


@cache
def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data) / 8 - 1, torch.tensor(data.target)


def some(first: int, stop: int) -> tuple[Tensor, Tensor]:
    images, labels = digits()
    return images[first:stop], labels[first:stop]


def digits_at(step: int) -> tuple[Tensor, Tensor]:
    return some(BATCH * step, BATCH * (step + 1))


HELD_OUT = (600, 640), (640, 660)  # the mean over examples matters
VALIDATION = [some(*part) for part in HELD_OUT]


class Small(nn.Module):
    """Smooth, so that no kink can make two roundings differ."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(64, 6), nn.LayerNorm(6), nn.GELU())
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def small() -> nn.Module:
    return Small().double()


def cross_entropy(module: nn.Module, batch: tuple[Tensor, Tensor], values: Values) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1])


# Networks


class Recurrent(nn.Module):
    """A digit as a sequence of its eight rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rows = nn.GRU(8, 5, batch_first=True)
        self.head = nn.Linear(5, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rows(x.view(-1, 8, 8))[0][:, -1])


class Attention(nn.Module):
    """The same under a transformer's encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, activation="gelu", batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # the only one with second derivatives
            return self.head(self.layer(x.view(-1, 8, 8)).mean(dim=1))


class Tied(nn.Module):
    """Two layers with one matrix."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.squeeze = nn.Linear(64, 6)
        self.there, self.again = nn.Linear(6, 6), nn.Linear(6, 6)
        self.again.weight = self.there.weight
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.there(torch.tanh(self.squeeze(x))))
        return self.head(torch.tanh(self.again(h)))


def frozen() -> nn.Module:
    net = small()
    net.body[0].weight.requires_grad_(False)
    net.head.bias.requires_grad_(False)
    return net


def frozen_as_buffers() -> nn.Module:
    """The same network; what is frozen is no parameter, so that no loop can train it."""
    net = small()
    for layer, name in ((net.body[0], "weight"), (net.head, "bias")):
        value = getattr(layer, name).detach()
        delattr(layer, name)
        layer.register_buffer(name, value)
    return net


def normalised() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 10)
    return nn.Sequential(*layers).double()


def micro_batches(step: int) -> MicroBatches:
    return MicroBatches(digits_at(3 * step + part) for part in range(3))


# Tasks


@cache
def diabetes() -> tuple[Tensor, Tensor]:
    """Ten measurements of a patient, and how the illness went on."""
    inputs, target = map(torch.tensor, load_diabetes(return_X_y=True))
    return 20 * inputs, (target - target.mean()) / target.std()


def patients(first: int, stop: int) -> tuple[Tensor, Tensor]:
    inputs, target = diabetes()
    return inputs[first:stop], target[first:stop]


def regressor() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 6), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0)).double()


def squared_error(module: nn.Module, batch: tuple[Tensor, Tensor], values: Values) -> Tensor:
    return F.mse_loss(module(batch[0]), batch[1])


def several_labels(first: int, stop: int) -> tuple[Tensor, Tensor]:
    """Whether a digit is even, above four, and drawn with a closed loop."""
    images, labels = some(first, stop)
    loops = torch.isin(labels, torch.tensor([0, 6, 8, 9]))
    return images, torch.stack([labels % 2 == 0, labels > 4, loops], dim=1).double()


def binary_entropies(module: nn.Module, batch: tuple[Tensor, Tensor], values: Values) -> Tensor:
    return F.binary_cross_entropy_with_logits(module(batch[0])[:, :3], batch[1])


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.upper, self.lower = nn.Linear(32, 5), nn.Linear(32, 5)
        self.head = nn.Linear(5, 10)

    def forward(self, upper: Tensor, lower: Tensor) -> Tensor:
        return self.head(torch.tanh(self.upper(upper)) * torch.tanh(self.lower(lower)))


def halves(first: int, stop: int) -> dict[str, Tensor]:
    images, labels = some(first, stop)
    return {"upper": images[:, :32], "lower": images[:, 32:], "labels": labels}


def of_two_inputs(module: nn.Module, batch: dict[str, Tensor], values: Values) -> tuple:
    logits = module(batch["upper"], lower=batch["lower"])
    return F.cross_entropy(logits, batch["labels"]), logits


@dataclass
class Output:
    """As a model of Hugging Face's returns it, with more in it."""

    loss: Tensor
    logits: Tensor
    hidden: Tensor


class WithItsLoss(Small):
    def forward(self, inputs: Tensor, labels: Tensor) -> Output:  # type: ignore[override]
        hidden = self.body(inputs)
        logits = self.head(hidden)
        return Output(F.cross_entropy(logits, labels), logits, hidden)


def named(first: int, stop: int) -> dict[str, Tensor]:
    return dict(zip(("inputs", "labels"), some(first, stop), strict=True))


def of_the_output(module: nn.Module, batch: dict[str, Tensor], values: Values) -> tuple:
    output = module(**batch)
    loss = output.loss
    if "z_loss" in values:
        loss = loss + values["z_loss"] * output.logits.logsumexp(dim=1).square().mean()
    return loss, output.logits


def margins(module: nn.Module, batch: tuple[Tensor, Tensor], values: Values) -> Tensor:
    """A validation loss that is not what was trained for."""
    return F.multi_margin_loss(torch.tanh(module(batch[0])), batch[1], p=2)


# Ready-made losses, here written out once more


@cache
def teacher() -> Tensor:
    """A linear teacher, by least squares on digits that nothing else here uses."""
    images, labels = some(1000, 1700)
    return 5 * torch.linalg.lstsq(images, F.one_hot(labels, 10).double(), driver="gelsd").solution


def taught(first: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
    images, labels = some(first, stop)
    return images, labels, images @ teacher()


def distilled(module: nn.Module, batch: tuple[Tensor, ...], values: Values) -> Tensor:
    x, labels, teaching = batch
    logits = module(x)
    hard = F.cross_entropy(logits, labels)
    if not values:
        return hard
    w, T = values["distillation_weight"], values["temperature"]
    towards = F.log_softmax(teaching / T, dim=1)
    soft = F.kl_div(
        F.log_softmax(logits / T, dim=1), towards, reduction="batchmean", log_target=True
    )
    return (1 - w) * hard + w * T**2 * soft


def noisy(module: nn.Module, batch: tuple[Tensor, ...], values: Values) -> Tensor:
    x = batch[0] + values["noise"] * batch[2] if values else batch[0]
    return F.cross_entropy(module(x), batch[1])


def squares(logits: Tensor, batch: Batch) -> Tensor:
    return logits.square().mean()


def with_squares(module: nn.Module, batch: tuple[Tensor, Tensor], values: Values) -> Tensor:
    logits = module(batch[0])
    loss = F.cross_entropy(logits, batch[1])
    return loss + values["auxiliary_weight"] * (logits**2).mean() if values else loss


def by_steps(make: Callable[[int, int], Batch]) -> Callable[[int], Batch]:
    return lambda step: make(BATCH * step, BATCH * (step + 1))


CASES = {
    "GRU": Case(lambda: Recurrent().double(), cross_entropy, digits_at, VALIDATION),
    "transformer": Case(lambda: Attention().double(), cross_entropy, digits_at, VALIDATION),
    "tied weights": Case(lambda: Tied().double(), cross_entropy, digits_at, VALIDATION),
    "frozen parameters": Case(
        frozen, cross_entropy, digits_at, VALIDATION, plain_module=frozen_as_buffers
    ),
    "batch norm, micro-batches": Case(normalised, cross_entropy, micro_batches, VALIDATION),
    "regression": Case(
        regressor, squared_error, by_steps(patients), [patients(300, 340), patients(340, 350)]
    ),
    "several labels": Case(
        small,
        binary_entropies,
        by_steps(several_labels),
        [several_labels(*part) for part in HELD_OUT],
    ),
    "two inputs": Case(
        lambda: TwoInputs().double(),
        of_two_inputs,
        by_steps(halves),
        [halves(*p) for p in HELD_OUT],
    ),
    "an output with its loss": Case(
        lambda: WithItsLoss().double(),
        of_the_output,
        by_steps(named),
        [named(*part) for part in HELD_OUT],
        {"z_loss": (0.1, 0.05)},
        metric=accuracy,
    ),
    "another validation loss": Case(
        small, cross_entropy, digits_at, VALIDATION, validation_loss=margins
    ),
    "distillation": Case(
        small,
        losses.distillation,
        by_steps(taught),
        [taught(*part) for part in HELD_OUT],
        {"distillation_weight": (0.4, 0.6), "temperature": (2.0, 1.5)},
        plain=distilled,
    ),
    "noise": Case(
        small,
        losses.cross_entropy,
        with_noise(TensorBatches(some(0, 300), BATCH, ("n",)), ("noise",)).at,
        VALIDATION,
        {"noise": (0.5, 0.3)},
        plain=noisy,
    ),
    "auxiliary loss": Case(
        small,
        losses.auxiliary(losses.cross_entropy, squares),
        digits_at,
        VALIDATION,
        {"auxiliary_weight": (0.1, 0.05)},
        plain=with_squares,
    ),
}


@cache
def expected(name: str) -> unrolled.Unrolled:
    return theirs(CASES[name])


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (name, mode)
        for name in CASES
        for mode in ("loop", "vmap", "reverse")
        if (name, mode) != ("regression", "vmap")  # PyTorch cannot: see the test of `auto` below
    ],
)
def test_equals_the_unrolled_loop(name: str, mode: str) -> None:
    model, found = ours(CASES[name], mode)
    for own, weights in model.parameters(found.state.theta).items():
        torch.testing.assert_close(weights, expected(name).parameters[own], rtol=0, atol=1e-12)
    pairs = zip(found.values, found.contributing, strict=True)
    summed = torch.tensor([h * steps for h, steps in pairs], dtype=torch.float64)
    hypergradients = expected(name).hypergradients
    sizes = [len(own) for own in hypergradients.values()]
    for (value, own), mine in zip(hypergradients.items(), summed.split(sizes), strict=True):
        assert own.isfinite().all()
        assert own.abs().max() > 0, f"{value} has no influence: nothing is tested"
        assert float((mine - own).abs().max() / own.abs().max()) <= RELATIVE, value


def test_auto_passes_over_a_strategy_that_cannot_take_the_squared_error() -> None:
    with warnings.catch_warnings(record=True):  # that vmap is passed over
        warnings.simplefilter("always")
        auto = ours(CASES["regression"], "auto")[1].values
    loop = ours(CASES["regression"], "loop")[1].values
    torch.testing.assert_close(auto, loop, rtol=1e-9, atol=1e-15)


def test_frozen_parameters_stay_and_a_tied_matrix_is_one() -> None:
    model, found = ours(CASES["frozen parameters"], "reverse")
    assert list(model.parameters(found.state.theta)) == [
        "body.0.bias",
        "body.1.weight",
        "body.1.bias",
        "head.weight",
    ]
    names = list(FlatModel(Tied(), cross_entropy).parameters(FlatModel(Tied()).theta()))
    assert "there.weight" in names
    assert "again.weight" not in names


def test_without_a_metric_the_loss_alone_is_reported() -> None:
    case = CASES["regression"]
    model = FlatModel(case.module(), squared_error)
    loss, score = model.evaluate(model.theta(), model.buffers(), case.validation)
    with torch.no_grad():
        inputs, target = patients(300, 350)
        assert loss == pytest.approx(float((case.module()(inputs) - target).square().mean()))
    assert math.isnan(score)


def test_a_metric_judges_the_logits_of_an_output() -> None:
    case = CASES["an output with its loss"]
    model, found = ours(case, "reverse")
    state = found.state
    loss, score = model.evaluate(state.theta, state.buffers, case.validation)
    assert loss == pytest.approx(expected("an output with its loss").loss, rel=1e-12)
    with torch.no_grad():
        model.load(state.theta, state.buffers)
        inputs, labels = some(600, 660)
        logits = model.module(inputs, labels).logits
    assert score == pytest.approx(float((logits.argmax(1) == labels).double().mean()))


def test_the_micro_batches_update_running_statistics_one_after_another() -> None:
    _, there = ours(CASES["batch norm, micro-batches"], "loop")
    _, back = ours(CASES["batch norm, micro-batches"], "reverse")
    assert int(there.state.buffers["1.num_batches_tracked"]) == 3 * HORIZON
    for name, buffer in there.state.buffers.items():
        # Reverse mode takes gradients as `fused` does: the same up to rounding.
        torch.testing.assert_close(back.state.buffers[name], buffer, rtol=1e-10, atol=1e-12)


# Lower precision


def lowered(module: nn.Module, batch: tuple[Tensor, Tensor], values: Values) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return F.cross_entropy(module(batch[0]), batch[1]) * (1 + values.get("more", 0))


def single(loss: Loss) -> Case:
    parts = [(x.float(), y) for x, y in VALIDATION]
    at = digits_at
    return Case(Small, loss, lambda t: (at(t)[0].float(), at(t)[1]), parts)


def test_autocast_inside_the_loss_is_differentiated_through() -> None:
    found = [
        torch.tensor(ours(single(loss), mode)[1].values)
        for loss, mode in ((lowered, "loop"), (lowered, "reverse"), (cross_entropy, "loop"))
    ]
    there, back, exact = (each[:3] for each in found)  # of the learning rate
    # bfloat16 has 8 bits, and every entry passes a few dozen roundings.
    torch.testing.assert_close(there, back, rtol=0.05, atol=0.02 * float(exact.abs().max()))
    torch.testing.assert_close(there, exact, rtol=0.2, atol=0.05 * float(exact.abs().max()))
    assert not torch.equal(there, exact)


@pytest.mark.parametrize("mode", ["loop", "reverse"])
def test_autocast_around_is_refused_in_one_line(mode: str) -> None:
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ValueError, match="switch it on inside the loss") as refusal,
    ):
        ours(single(cross_entropy), mode)
    assert "\n" not in str(refusal.value)


def test_a_value_that_is_not_asked_for_is_refused_by_name() -> None:
    case = CASES["auxiliary loss"]._replace(learned={"auxilary_weight": (0.1, 0.05)})
    for mode in ("loop", "reverse"):
        with pytest.raises(ValueError, match="neither the loss asks for auxilary_weight nor"):
            ours(case, mode)
