"""Hypergradients of any optimiser and any hyperparameter against an ordinary unrolled loop."""

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
import unrolled
from sklearn.datasets import load_digits
from torch import Tensor, nn
from unrolled import Coefficients, Unrolled

from hypergrad.core.basis import Basis, Cosine, Hats, Linear, Vector, WarmUp, Windows
from hypergrad.core.batches import MicroBatches
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip, NoClip, NormClip
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.objective import Objective
from hypergrad.core.rules import Rule, adam, adamw, rmsprop, sgd
from hypergrad.core.schedule import Schedule
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.result import Hypergradients
from hypergrad.differentiation.reverse import ReverseOptions

# Both sides add up a few hundred products in float64, in another order: 1e-9 leaves room for
# the growth of 1e-16 along the loop and none for a missing term.
RELATIVE = 1e-9
HORIZON = 9  # three hats have their knots at whole steps
BATCH = 16

Loss = Callable[..., Tensor]
BatchAt = Callable[[int], object]


# What is learned, said once for the library and once for the oracle


class Learned(NamedTuple):
    """Coefficients of one hyperparameter, and what they set."""

    start: tuple[float, ...]
    basis: str = "windows"
    sets: str | None = None
    group: str | None = None
    size: int = 1

    def ours(self, name: str) -> Hyperparameter:
        inside = GROUPS[self.group] if self.group else None
        where = None if inside is None else (lambda parameter, _: inside(parameter))
        return Hyperparameter(name, self.our_basis, sets=self.sets or name, where=where)

    @property
    def our_basis(self) -> Basis:
        basis = OUR_BASES[self.basis](len(self.start) // self.size)
        return basis if self.size == 1 else Vector(self.size, basis)

    def theirs(self, name: str) -> Coefficients:
        weight = THEIR_BASES[self.basis](len(self.start) // self.size)
        where = GROUPS[self.group] if self.group else None
        return Coefficients(self.start, weight, self.sets or name, where, self.size)


def line(step: int, horizon: int) -> tuple[float, float]:
    return 1.0, step / horizon


OUR_BASES: dict[str, Callable[[int], Basis]] = {
    "windows": Windows,
    "hats": Hats,
    "cosine": Cosine,
    "warm_up": lambda count: WarmUp(0.45, Cosine(count)),  # 4 of the 9 steps
    "line": lambda count: Linear(line, count),
}
THEIR_BASES = {
    "windows": unrolled.windows,
    "hats": unrolled.hats,
    "cosine": unrolled.cosine,
    "warm_up": lambda count: unrolled.warm_up(0.45, unrolled.cosine(count)),
    "line": lambda count: lambda i, t, T: (t / T) ** i,
}
GROUPS: dict[str, Callable[[str], bool]] = {
    "head": lambda name: name.startswith("3."),
    "body": lambda name: not name.startswith("3."),
}
RULES: dict[str, tuple[Rule, unrolled.Update]] = {
    "sgd": (sgd(), unrolled.sgd()),
    "nesterov": (sgd(nesterov=True), unrolled.sgd(nesterov=True)),
    "dampening": (sgd(dampening=0.3), unrolled.sgd(dampening=0.3)),
    "adam": (adam(), unrolled.adam()),
    "adamw": (adamw(), unrolled.adamw()),
    "rmsprop": (rmsprop(), unrolled.rmsprop()),
    "centered": (rmsprop(centered=True), unrolled.rmsprop(centered=True)),
}
# The limits are such that they bite somewhere and not everywhere: see the test of that.
CLIPS: dict[str, tuple[object, Callable]] = {
    "free": (NoClip(), unrolled.no_clip),
    "elementwise": (ElementwiseClip(0.04), unrolled.elementwise_clip(0.04)),
    "norm": (NormClip(1.4), unrolled.norm_clip(1.4)),
}
# Middle and width of every value.
_SGD = {"learning_rate": (0.1, 0.03), "momentum": (0.6, 0.2), "weight_decay": (0.01, 0.004)}
_ADAM = {
    "learning_rate": (0.01, 0.003),
    "beta1": (0.8, 0.1),
    "beta2": (0.95, 0.02),
    "epsilon": (1e-3, 3e-4),
    "weight_decay": (0.01, 0.004),
}
_RMSPROP = {
    "learning_rate": (0.01, 0.003),
    "smoothing": (0.9, 0.05),
    "momentum": (0.5, 0.1),
    "epsilon": (1e-3, 3e-4),
    "weight_decay": (0.01, 0.004),
}
RANGES = {
    "sgd": _SGD,
    "nesterov": _SGD,
    "dampening": _SGD,
    "adam": _ADAM,
    "adamw": _ADAM,
    "rmsprop": _RMSPROP,
    "centered": _RMSPROP,
}


def spread(basis: str, middle: float, width: float) -> tuple[float, ...]:
    """Coefficients whose values stay within the width around the middle."""
    if basis == "hats":
        return middle, middle - width, middle + width / 2
    return (middle, width) if basis == "cosine" else (middle - width, middle + width)


def learned_values(rule: str, scope: str, basis: str, kind: str) -> dict[str, Learned]:
    """The optimiser's own values, all on the basis; or one of the loss beside what it needs."""
    found = {}
    for name, (middle, width) in RANGES[rule].items():
        own = Learned(spread(basis, middle, width), basis)
        if kind == "loss" and name != "learning_rate":
            if name not in ("momentum", "epsilon"):
                continue  # at the rule's default
            own = Learned((middle,))
        if scope == "per group" and name == "learning_rate":
            lower = tuple(0.7 * x for x in own.start)
            found["body_rate"] = own._replace(sets=name, group="body")
            found["head_rate"] = own._replace(start=lower, sets=name, group="head")
        elif scope == "per group" and name == "weight_decay":
            # The body's is the default.
            found["head_decay"] = own._replace(sets=name, group="head")
        else:
            found[name] = own
    if kind == "loss":
        found["label_smoothing"] = Learned(spread(basis, 0.1, 0.04), basis)
    return found


# What is trained


@cache
def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data) / 8 - 1, torch.tensor(data.target)


@cache
def network() -> nn.Module:
    """Smooth, so that no kink can make two roundings differ."""
    torch.manual_seed(0)
    layers = nn.Linear(64, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 10)
    return nn.Sequential(*layers).double()


def batch_at(step: int) -> tuple[Tensor, Tensor]:
    images, labels = digits()
    picks = slice(step * BATCH, (step + 1) * BATCH)
    return images[picks], labels[picks]


def validation() -> list[tuple[Tensor, Tensor]]:
    """Two batches of different size, so that the mean over examples matters."""
    images, labels = digits()
    return [(images[600:650], labels[600:650]), (images[650:670], labels[650:670])]


def cross_entropy(module: Loss, batch: tuple, values: Mapping[str, Tensor] | None = None) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1])


def smoothed(module: Loss, batch: tuple, values: Mapping[str, Tensor]) -> Tensor:
    logs = F.log_softmax(module(batch[0]), dim=1)
    share = values["label_smoothing"]
    return (1 - share) * F.nll_loss(logs, batch[1]) - share * logs.mean()


# Both sides


def theirs(
    update: unrolled.Update,
    learned: Mapping[str, Learned],
    *,
    defaults: Mapping[str, float],
    loss: Loss = cross_entropy,
    batches: BatchAt = batch_at,
    held_out: list | None = None,
    module: nn.Module | None = None,
    clip: Callable = unrolled.no_clip,
) -> Unrolled:
    return unrolled.unrolled(
        module or network(),
        loss,
        cross_entropy,
        batches,
        held_out or validation(),
        update,
        {name: own.theirs(name) for name, own in learned.items()},
        HORIZON,
        defaults=defaults,
        clip=clip,
    )


def ours(
    mode: str,
    rule: Rule,
    learned: Mapping[str, Learned],
    *,
    loss: Loss = cross_entropy,
    batches: BatchAt = batch_at,
    held_out: list | None = None,
    module: nn.Module | None = None,
    clip: object = NoClip(),  # noqa: B008 (frozen)
) -> tuple[FlatModel, Hypergradients]:
    model = FlatModel(module or network(), Objective(loss, validation_loss=cross_entropy))
    schedule = Schedule(
        {name: own.start for name, own in learned.items()},
        {name: own.our_basis for name, own in learned.items()},
    )
    optimizer = InnerOptimizer(rule, tuple(own.ours(name) for name, own in learned.items()), clip)
    given = model, model.theta(), batches, held_out or validation(), schedule, HORIZON
    if mode == "forward":
        return model, forward.hypergradients(
            *given, options=ForwardOptions(strategy="loop"), optimizer=optimizer
        )
    return model, reverse.hypergradients(*given, options=ReverseOptions(), optimizer=optimizer)


def summed(found: Hypergradients) -> Tensor:
    """Hypergradients with the averaging undone."""
    pairs = zip(found.values, found.contributing, strict=True)
    return torch.tensor([h * steps for h, steps in pairs], dtype=torch.float64)


def assert_equal(found: tuple[FlatModel, Hypergradients], expected: Unrolled) -> None:
    """The same weights at the end, and the same hypergradients.

    Their errors are measured by the largest of each hyperparameter: one coefficient's may be the
    small difference of large numbers.
    """
    model, result = found
    for name, own in model.parameters(result.state.theta).items():
        torch.testing.assert_close(own, expected.parameters[name], rtol=0, atol=1e-12)
    values = summed(result)
    assert len(values) == sum(map(len, expected.hypergradients.values()))
    sizes = [len(own) for own in expected.hypergradients.values()]
    for (name, own), mine in zip(expected.hypergradients.items(), values.split(sizes), strict=True):
        assert own.isfinite().all()
        assert own.abs().max() > 0, f"{name} has no influence: nothing is tested"
        error = float((mine - own).abs().max() / own.abs().max())
        assert error <= RELATIVE, f"{name}: {mine.tolist()} is not {own.tolist()}"


# Every rule, scope, basis, kind of hyperparameter and clip


@cache
def unrolled_case(rule: str, scope: str, basis: str, kind: str, clip: str) -> Unrolled:
    return theirs(
        RULES[rule][1],
        learned_values(rule, scope, basis, kind),
        defaults=RULES[rule][0].defaults,
        loss=smoothed if kind == "loss" else cross_entropy,
        clip=CLIPS[clip][1],
    )


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("kind", ["optimizer", "loss"])
@pytest.mark.parametrize("basis", ["windows", "hats", "cosine"])
@pytest.mark.parametrize("scope", ["global", "per group"])
@pytest.mark.parametrize("rule", RULES)
def test_equals_the_unrolled_loop(
    rule: str, scope: str, basis: str, kind: str, clip: str, mode: str
) -> None:
    found = ours(
        mode,
        RULES[rule][0],
        learned_values(rule, scope, basis, kind),
        loss=smoothed if kind == "loss" else cross_entropy,
        clip=CLIPS[clip][0],
    )
    assert_equal(found, unrolled_case(rule, scope, basis, kind, clip))


@pytest.mark.parametrize("clip", ["elementwise", "norm"])
@pytest.mark.parametrize("rule", RULES)
def test_the_clips_above_bite_somewhere_and_not_everywhere(rule: str, clip: str) -> None:
    share = unrolled_case(rule, "global", "windows", "optimizer", clip).clipped
    assert 0.1 < sum(share) / len(share) < 0.9


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("basis", ["warm_up", "line"])
@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_other_bases_equal_the_unrolled_loop(rule: str, basis: str, mode: str) -> None:
    learned = learned_values(rule, "per group", "cosine", "optimizer")
    learned = {
        name: own._replace(basis=basis) if own.sets == "learning_rate" else own
        for name, own in learned.items()
    }
    expected = theirs(RULES[rule][1], learned, defaults=RULES[rule][0].defaults)
    assert_equal(ours(mode, RULES[rule][0], learned), expected)


# Hyperparameters of the loss


class Dropped(nn.Module):
    """The network above with dropout relaxed to a smooth gate (Maddison et al.; Jang et al.)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8), nn.GELU())
        self.head = nn.Linear(8, 10)

    def forward(
        self, x: Tensor, rate: Tensor | None = None, uniform: Tensor | None = None
    ) -> Tensor:
        h = self.body(x)
        if rate is not None and uniform is not None:
            logits = torch.log((1 - rate) / rate) + torch.log(uniform / (1 - uniform))
            h = h * torch.sigmoid(logits / 0.3) / (1 - rate)
        return self.head(h)


def dropped_out(module: Loss, batch: tuple, values: Mapping[str, Tensor]) -> Tensor:
    x, labels, uniform = batch
    return F.cross_entropy(module(x, values["dropout_rate"], uniform), labels)


def with_uniform(step: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(step)
    uniform = torch.rand(BATCH, 8, generator=generator, dtype=torch.float64)
    return *batch_at(step), uniform.clamp(1e-6, 1 - 1e-6)


def augmented(module: Loss, batch: tuple, values: Mapping[str, Tensor]) -> Tensor:
    x, labels, noise = batch
    return F.cross_entropy(module(x + values["strength"] * noise), labels)


def with_noise(step: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(step)
    return *batch_at(step), torch.randn(BATCH, 64, generator=generator, dtype=torch.float64)


def with_auxiliary(module: Loss, batch: tuple, values: Mapping[str, Tensor]) -> Tensor:
    logits = module(batch[0])
    return F.cross_entropy(logits, batch[1]) + values["auxiliary"] * logits.square().mean()


def class_weighted(module: Loss, batch: tuple, values: Mapping[str, Tensor]) -> Tensor:
    each = F.cross_entropy(module(batch[0]), batch[1], reduction="none")
    return (values["class_weights"][batch[1]] * each).mean()


class LossCase(NamedTuple):
    loss: Loss
    name: str
    learned: Learned
    batches: BatchAt = batch_at
    module: Callable[[], nn.Module] = network


LOSSES = {
    "label smoothing": LossCase(smoothed, "label_smoothing", Learned((0.1, 0.05))),
    "augmentation strength": LossCase(augmented, "strength", Learned((0.3, 0.1)), with_noise),
    "auxiliary loss": LossCase(with_auxiliary, "auxiliary", Learned((0.1, 0.05))),
    "dropout rate": LossCase(
        dropped_out,
        "dropout_rate",
        Learned((0.3, 0.1)),
        with_uniform,
        lambda: Dropped().double(),
    ),
    "class weights": LossCase(
        class_weighted,
        "class_weights",
        Learned(tuple(0.8 + 0.05 * c for c in range(10)), size=10),
    ),
    "class weights in two hats": LossCase(
        class_weighted,
        "class_weights",
        Learned(tuple(0.8 + 0.02 * i for i in range(20)), "hats", size=10),
    ),
}


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("rule", ["sgd", "adamw"])
@pytest.mark.parametrize("case", LOSSES)
def test_hyperparameters_of_the_loss_equal_the_unrolled_loop(
    case: str, rule: str, mode: str
) -> None:
    loss, name, own, batches, module = LOSSES[case]
    middle = {value: Learned((start,)) for value, (start, _) in RANGES[rule].items()}
    learned = {name: own, **middle}
    mine, their_update = RULES[rule]
    expected = theirs(
        their_update,
        learned,
        defaults=mine.defaults,
        loss=loss,
        batches=batches,
        module=module(),
    )
    assert_equal(ours(mode, mine, learned, loss=loss, batches=batches, module=module()), expected)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_schedule_says_what_is_learned_where_no_hyperparameter_is_declared(mode: str) -> None:
    learned = learned_values("adamw", "global", "windows", "optimizer")
    learned["label_smoothing"] = Learned((0.1, 0.05))
    model = FlatModel(network(), Objective(smoothed, validation_loss=cross_entropy))
    schedule = Schedule({name: own.start for name, own in learned.items()})
    given = model, model.theta(), batch_at, validation(), schedule, HORIZON
    if mode == "forward":
        found = forward.hypergradients(*given, optimizer=InnerOptimizer(adamw()))
    else:
        found = reverse.hypergradients(*given, optimizer=InnerOptimizer(adamw()))
    expected = theirs(unrolled.adamw(), learned, defaults=adamw().defaults, loss=smoothed)
    assert_equal((model, found), expected)


# Parameters that have no gradient

TOKENS = 20  # the pixels have 17 values: the last three rows are never seen


class Embedded(nn.Module):
    """The brightness of six pixels as tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rows = nn.Embedding(TOKENS, 3)
        self.head = nn.Linear(18, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.rows(tokens).flatten(1)))


def tokens_of(first: int, stop: int) -> tuple[Tensor, Tensor]:
    images, labels = digits()
    return (images[first:stop, [18, 21, 27, 36, 42, 45]] * 8 + 8).round().long(), labels[first:stop]


def token_batch(step: int) -> tuple[Tensor, Tensor]:
    return tokens_of(4 * step, 4 * step + 4)  # few, so that some rows are first seen late


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("clip", ["free", "norm"])
@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("rule", ["adam", "adamw", "rmsprop", "centered"])
def test_rows_of_an_embedding_that_are_never_seen(
    rule: str, decay: float, clip: str, mode: str
) -> None:
    seen = [set(token_batch(step)[0].flatten().tolist()) for step in range(HORIZON)]
    assert set().union(*seen) - seen[0], "no row is first seen late"
    assert max(set().union(*seen)) < TOKENS - 1
    learned = learned_values(rule, "global", "windows", "optimizer")
    learned["weight_decay"] = Learned((decay,))
    held_out = [tokens_of(600, 640), tokens_of(640, 660)]
    mine, their_update = RULES[rule]
    given = {"batches": token_batch, "held_out": held_out, "module": Embedded().double()}
    found = ours(mode, mine, learned, clip=CLIPS[clip][0], **given)
    assert all(map(math.isfinite, found[1].values))
    clipped = CLIPS[clip][1]
    expected = theirs(their_update, learned, defaults=mine.defaults, clip=clipped, **given)
    assert_equal(found, expected)


# Gradient accumulation


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_micro_batches_equal_the_unrolled_loop(rule: str, clip: str, mode: str) -> None:
    """The clip is of the mean of their gradients, as in a loop that accumulates them."""

    def parts(step: int) -> list[tuple[Tensor, Tensor]]:
        return [batch_at(3 * step + part) for part in range(3)]

    learned = learned_values(rule, "global", "windows", "optimizer")
    learned["label_smoothing"] = Learned((0.1, 0.05))
    mine, their_update = RULES[rule]
    expected = theirs(
        their_update,
        learned,
        defaults=mine.defaults,
        loss=smoothed,
        batches=parts,
        clip=CLIPS[clip][1],
    )
    found = ours(
        mode,
        mine,
        learned,
        loss=smoothed,
        batches=lambda step: MicroBatches(tuple(parts(step))),
        clip=CLIPS[clip][0],
    )
    assert_equal(found, expected)


# Rules of one's own


def softsign_update(
    g: Tensor, theta: Tensor, slots: tuple[Tensor, ...], values: Mapping, step: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A smooth sign of a moving average, and a slow copy that the parameters are pulled to."""
    average, slow = slots
    average = values["memory"] * average + (1 - values["memory"]) * g
    moved = theta - values["rate"] * torch.tanh(average / values["width"]) / (step + 1) ** 0.5
    moved = moved + values["pull"] * (slow - moved)
    return moved, (average, slow + 0.5 * (moved - slow))


def softsign_theirs(
    g: Tensor, p: Tensor, kept: dict[str, Tensor], value: Callable[[str], Tensor], t: int
) -> tuple[Tensor, dict[str, Tensor]]:
    values = {name: value(name) for name in ("memory", "rate", "width", "pull")}
    zero = torch.zeros_like(p)
    slots = kept.get("average", zero), kept.get("slow", zero)
    p, (average, slow) = softsign_update(g, p, slots, values, t)
    return p, {"average": average, "slow": slow}


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("clip", CLIPS)
def test_a_rule_of_ones_own_equals_the_unrolled_loop(clip: str, mode: str) -> None:
    defaults = {"rate": 0.05, "memory": 0.5, "width": 0.1, "pull": 0.02}
    rule = Rule(softsign_update, defaults, ("average", "slow"))
    learned = {
        "body_rate": Learned((0.05, 0.04), sets="rate", group="body"),
        "head_rate": Learned((0.03, 0.02, 0.02), "hats", sets="rate", group="head"),
        "memory": Learned((0.6, 0.1), "cosine"),
        "pull": Learned((0.05,)),
    }
    expected = theirs(softsign_theirs, learned, defaults=defaults, clip=CLIPS[clip][1])
    assert_equal(ours(mode, rule, learned, clip=CLIPS[clip][0]), expected)


def normalised_update(
    g: Tensor, theta: Tensor, slots: tuple[Tensor, ...], values: Mapping, step: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """LARS without its exceptions: the step is as long as the weights, times the rate."""
    (v,) = slots
    v = values["momentum"] * v + g
    length = theta.square().sum().sqrt() / v.square().sum().sqrt()
    return theta - values["rate"] * length * v, (v,)


def normalised_theirs(
    g: Tensor, p: Tensor, kept: dict[str, Tensor], value: Callable[[str], Tensor], t: int
) -> tuple[Tensor, dict[str, Tensor]]:
    values = {name: value(name) for name in ("rate", "momentum")}
    p, (v,) = normalised_update(g, p, (kept.get("v", torch.zeros_like(p)),), values, t)
    return p, {"v": v}


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_rule_that_mixes_parameters_equals_the_unrolled_loop(mode: str) -> None:
    """On a network of one matrix, where the parameter by name is all of them."""
    defaults = {"rate": 0.01, "momentum": 0.5}
    rule = Rule(normalised_update, defaults, ("v",), elementwise=False)
    torch.manual_seed(0)
    module = nn.Linear(64, 10, bias=False).double()
    learned = {"rate": Learned((0.02, 0.01)), "momentum": Learned((0.5, 0.1), "cosine")}
    expected = theirs(normalised_theirs, learned, defaults=defaults, module=module)
    assert_equal(ours(mode, rule, learned, module=module), expected)


def plain_update(
    g: Tensor, theta: Tensor, slots: tuple[Tensor, ...], values: Mapping, step: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    (v,) = slots
    v = values["momentum"] * v + g + values["weight_decay"] * theta
    return theta - values["learning_rate"] * v, (v,)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("basis", ["windows", "hats", "cosine"])
@pytest.mark.parametrize("scope", ["global", "per group"])
def test_the_recursion_written_out_for_sgd_is_that_derived_from_its_update(
    scope: str, basis: str, clip: str, mode: str
) -> None:
    learned = learned_values("sgd", scope, basis, "optimizer")
    learned["label_smoothing"] = Learned((0.1, 0.05))
    derived = Rule(plain_update, sgd().defaults, ("v",))
    found = [
        summed(ours(mode, rule, learned, loss=smoothed, clip=CLIPS[clip][0])[1])
        for rule in (sgd(), derived)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)
