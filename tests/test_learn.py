"""The method in one call, for any optimiser and any data: what a user does, and does wrong."""

import math
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hypergrad import OuterStep, best, learn
from hypergrad.core.basis import Hats, Vector, Windows
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.losses import cross_entropy
from hypergrad.core.objective import Objective, accuracy, supervised
from hypergrad.core.rules import adamw, sgd
from hypergrad.data import CachedBatches
from hypergrad.data.sources import TensorBatches
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.reverse import ReverseOptions

EPOCHS, BATCH, TRAIN = 3, 32, 320
STEPS = EPOCHS * TRAIN // BATCH


@cache
def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data, dtype=torch.float32) / 8 - 1, torch.tensor(data.target)


def tensor_batches() -> TensorBatches:
    images, labels = digits()
    return TensorBatches((images[:TRAIN], labels[:TRAIN]), BATCH, (0, "learn"))


def loader() -> DataLoader:
    images, labels = digits()
    draws = torch.Generator().manual_seed(0)
    dataset = TensorDataset(images[:TRAIN], labels[:TRAIN])
    return DataLoader(dataset, BATCH, shuffle=True, generator=draws)


def validation() -> list[tuple[Tensor, Tensor]]:
    images, labels = digits()
    return [(images[1000:1300], labels[1000:1300]), (images[1300:1400], labels[1300:1400])]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))


LOW, HIGH = 1e-4, 8e-3
LEARNED = (
    Hyperparameter("learning_rate", Hats(3), 1e-3, 0.7, "log", low=LOW, high=HIGH),
    Hyperparameter("beta1", 1, 0.9, 0.5, "logit"),
    Hyperparameter("beta2", 1, 0.99, 0.5, "logit"),
    Hyperparameter("epsilon", 1, 1e-6, 0.5, "log"),
    Hyperparameter("weight_decay", Windows(2), 0.01, 0.7, "log"),
)


def learned(**changed: object) -> list[OuterStep]:
    given = {
        "batches": tensor_batches(),
        "epochs": EPOCHS,
        "outer_steps": 4,
        "optimizer": InnerOptimizer(adamw(), LEARNED),
        "objective": supervised(),
        **changed,
    }
    objective, batches = given.pop("objective"), given.pop("batches")
    return learn(network(), objective, batches, validation(), **given)  # type: ignore[arg-type]


def rate_alone(start: float = 0.05, **changed: object) -> InnerOptimizer:
    return InnerOptimizer(sgd(), (Hyperparameter("learning_rate", 1, start, **changed),))  # type: ignore[arg-type]


# What is learned


def test_adamw_is_learned_on_its_scales_and_within_its_bounds() -> None:
    history = learned(outer_steps=6)
    assert [step.number for step in history] == list(range(6))
    for step in history:
        values = step.schedule
        assert all(LOW <= rate <= HIGH for rate in values["learning_rate"])
        assert all(0 < values[name][0] < 1 for name in ("beta1", "beta2"))
        assert all(value > 0 for value in (*values["epsilon"], *values["weight_decay"]))
        assert all(map(math.isfinite, step.hypergradients))
        assert step.horizon == STEPS
    losses = [step.validation_loss for step in history]
    assert losses[1] < losses[0]
    assert losses[-1] < 0.6 * losses[0]
    assert best(history).validation_accuracy > history[0].validation_accuracy + 0.05
    # Three moves of e^0.7 go beyond the bound, where the rates stay.
    assert HIGH in history[-1].schedule["learning_rate"]


def test_the_first_move_is_against_the_sign_on_the_scale() -> None:
    first, second = learned(outer_steps=2)
    scales = [each for each in LEARNED for _ in each.coefficients]
    for whose, before, after, h in zip(
        scales, first.schedule.flat, second.schedule.flat, first.hypergradients, strict=True
    ):
        moved = whose.distance(before, after)
        assert moved == pytest.approx(-math.copysign(whose.first_move, h), rel=1e-9), whose.name


def test_reverse_mode_learns_the_same() -> None:
    there, back = learned(), learned(options=ReverseOptions())
    for a, b in zip(there, back, strict=True):
        torch.testing.assert_close(a.schedule.flat, b.schedule.flat, rtol=1e-6, atol=0)
        largest = max(map(abs, a.hypergradients))
        torch.testing.assert_close(
            a.hypergradients, b.hypergradients, rtol=1e-3, atol=1e-5 * largest
        )


@pytest.mark.parametrize("options", [ForwardOptions(), ReverseOptions()], ids=["there", "back"])
def test_learning_goes_on_after_a_history(options: ForwardOptions | ReverseOptions) -> None:
    whole = learned(options=options)
    begun = learned(options=options, outer_steps=2)
    assert begun == whole[:2]
    assert learned(options=options, history=begun) == whole
    assert learned(options=options, history=whole) == whole  # nothing is left to do


def test_without_a_metric_the_validation_loss_decides() -> None:
    history = learned(
        objective=lambda module, batch, values: F.cross_entropy(module(batch[0]), batch[1])
    )
    assert all(math.isnan(step.validation_accuracy) for step in history)
    assert best(history).validation_loss == min(step.validation_loss for step in history)


def test_the_module_is_left_as_it_is() -> None:
    module = network().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = rate_alone()
    learn(
        module,
        supervised(),
        tensor_batches(),
        validation(),
        epochs=1,
        optimizer=optimizer,
        outer_steps=2,
    )
    assert not module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


# A value every step


def test_every_step_has_a_value_of_its_own_where_they_are_not_shared() -> None:
    optimizer = InnerOptimizer(
        sgd(),
        (
            Hyperparameter("learning_rate", Hats(2), 0.05, 0.01),
            Hyperparameter("momentum", 1, 0.5, learned=False),
            Hyperparameter("class_weights", Vector(10), 1.0, 0.1),
        ),
    )
    history = learned(
        objective=Objective(cross_entropy, metric=accuracy),
        optimizer=optimizer,
        shared=False,
        options=ReverseOptions(),
        outer_steps=2,
    )
    assert history[0].schedule.counts == {"learning_rate": STEPS, "class_weights": 10 * STEPS}
    assert set(history[0].contributing) == {1}
    assert history[0].schedule["learning_rate"] == (0.05,) * STEPS
    assert len(set(history[0].hypergradients[:STEPS])) == STEPS
    # A class that is not among a step's examples moves nothing.
    signs = [math.copysign(1, h) if h else 0 for h in history[0].hypergradients]
    assert signs.count(0) < STEPS
    moved = zip(history[1].schedule.flat, history[0].schedule.flat, strict=True)
    gammas = (0.01,) * STEPS + (0.1,) * 10 * STEPS
    for (after, before), sign, gamma in zip(moved, signs, gammas, strict=True):
        assert after - before == pytest.approx(-sign * gamma)
    assert history[1].validation_loss < history[0].validation_loss


def test_values_that_are_not_shared_need_reverse_mode() -> None:
    with pytest.raises(ValueError, match="shared=False learns a value for every inner step: give"):
        learned(shared=False, options=ForwardOptions())
    with pytest.raises(ValueError, match="first_horizons=\\(\\)"):
        learned(shared=False, options=ReverseOptions(), first_horizons=(1,))


def test_two_starting_values_do_not_say_where_a_value_a_step_starts() -> None:
    optimizer = InnerOptimizer(sgd(), (Hyperparameter("learning_rate", 2, (0.1, 0.2)),))
    with pytest.raises(ValueError, match=f"learning_rate: 2 starting values for {STEPS}"):
        learned(optimizer=optimizer, shared=False, options=ReverseOptions())


# Data


def test_a_loader_that_shuffles_is_read_once_and_kept() -> None:
    history = learned(batches=loader(), options=ForwardOptions())
    again = learned(batches=loader(), options=ForwardOptions())
    assert history == again
    assert history[-1].validation_loss < history[0].validation_loss
    back = learned(batches=loader(), options=ReverseOptions())
    torch.testing.assert_close(back[-1].schedule.flat, history[-1].schedule.flat, rtol=1e-6, atol=0)


TINY = 1e-6  # GB: nothing fits


def test_a_loader_that_does_not_fit_is_refused_in_reverse_mode() -> None:
    batches = CachedBatches(loader(), memory_gb=TINY)
    with pytest.raises(ValueError, match="cannot go back, as reverse mode does: raise memory_gb"):
        learned(batches=batches, options=ReverseOptions())


def test_a_loader_that_does_not_fit_goes_through_one_outer_step_of_forward_mode() -> None:
    batches = CachedBatches(loader(), memory_gb=TINY)
    found = learned(batches=batches, outer_steps=1)
    assert math.isfinite(found[0].validation_loss)
    with pytest.raises(ValueError, match="cannot begin again for another outer step: raise memory"):
        learned(batches=CachedBatches(loader(), memory_gb=TINY), outer_steps=2)


def test_a_function_makes_new_batches_for_every_outer_step() -> None:
    asked = []

    def anew(number: int) -> CachedBatches:
        asked.append(number)
        return CachedBatches(loader(), memory_gb=TINY)

    assert len(learned(batches=anew, outer_steps=3)) == 3
    assert asked == [0, 1, 2]


def test_a_class_of_batches_is_a_function_too() -> None:
    class Shuffled(TensorBatches):
        def __init__(self, outer_step: int) -> None:
            images, labels = digits()
            super().__init__((images[:TRAIN], labels[:TRAIN]), BATCH, (outer_step, "class"))

    both = {"outer_steps": 2, "options": ForwardOptions()}
    by_class = learned(batches=Shuffled, **both)
    assert by_class == learned(batches=lambda outer_step: Shuffled(outer_step), **both)


def test_a_loss_of_one_batch_size_is_told_that_it_is_tried_on_two_examples() -> None:
    def fixed(module: nn.Module, batch: tuple[Tensor, Tensor], values: object) -> Tensor:
        return F.cross_entropy(module(batch[0]) + torch.zeros(BATCH, 10), batch[1])

    with pytest.raises(RuntimeError) as refused:
        learned(objective=fixed, options=ReverseOptions())
    assert refused.value.__notes__ == [
        "The loss was tried on two examples: it must take any number."
    ]


def test_no_validation_data_is_refused() -> None:
    with pytest.raises(ValueError, match="no validation data: give at least one batch"):
        learn(network(), supervised(), loader(), [], epochs=1, optimizer=rate_alone())


# Mistakes


@pytest.mark.parametrize("options", [ForwardOptions(), ReverseOptions()], ids=["there", "back"])
def test_a_mistyped_name_is_refused(options: ForwardOptions | ReverseOptions) -> None:
    wrong = (*LEARNED, Hyperparameter("beta_1", 1, 0.9))
    with pytest.raises(ValueError, match="asks for beta_1 nor does adamw take it: .*beta1, beta2"):
        learned(optimizer=InnerOptimizer(adamw(), wrong), options=options)


def test_a_value_of_some_parameters_needs_a_name_of_its_own() -> None:
    with pytest.raises(ValueError, match="learning_rate is for some of the parameters: give it a"):
        Hyperparameter("learning_rate", where=lambda name, _: name.startswith("0"))


def test_a_rate_that_is_not_given_is_refused() -> None:
    optimizer = InnerOptimizer(sgd(), (Hyperparameter("momentum", 1, 0.9),))
    with pytest.raises(ValueError, match="sgd needs a learning_rate for every parameter"):
        learned(optimizer=optimizer)


def test_windows_that_do_not_fit_the_horizon_are_refused() -> None:
    optimizer = InnerOptimizer(sgd(), (Hyperparameter("learning_rate", STEPS + 1, 0.1),))
    with pytest.raises(ValueError, match=f"{STEPS + 1} windows do not fit {STEPS} inner steps"):
        learned(optimizer=optimizer)


@pytest.mark.parametrize("options", [ForwardOptions(), ReverseOptions()], ids=["there", "back"])
def test_training_that_diverges_at_the_start_ends_and_says_so(
    options: ForwardOptions | ReverseOptions,
) -> None:
    def quartic(module: nn.Module, batch: tuple, values: dict) -> Tensor:
        return (module(batch[0]) - F.one_hot(batch[1], 10)).pow(4).mean()

    optimizer = rate_alone(1e12, scale="log")
    with pytest.warns(RuntimeWarning, match="outer step 0: training diverged"):
        history = learned(
            objective=Objective(quartic), optimizer=optimizer, options=options, outer_steps=5
        )
    assert len(history) == 1
    (step,) = history
    assert step.ended == "training diverges at the starting values: start from smaller ones"
    assert step.diverged_step is not None
    assert all(map(math.isnan, step.hypergradients))
    with pytest.raises(ValueError, match="no outer step has a finite validation loss"):
        best(history)


def test_what_diverges_later_steps_back() -> None:
    """From e^12 times the rate halfway back on the scale, and on from there."""

    def quartic(module: nn.Module, batch: tuple, values: dict) -> Tensor:
        return (module(batch[0]) - F.one_hot(batch[1], 10)).pow(4).mean()

    optimizer = rate_alone(1e-3, first_move=12.0, scale="log")
    with pytest.warns(RuntimeWarning, match="outer step 1: training diverged"):
        history = learned(objective=Objective(quartic), optimizer=optimizer, outer_steps=3)
    rates = [step.schedule["learning_rate"][0] for step in history]
    assert [step.diverged_step is None for step in history] == [True, False, True]
    assert rates[1] == pytest.approx(rates[0] * math.exp(12))
    assert rates[2] == pytest.approx(rates[0] * math.exp(6))
