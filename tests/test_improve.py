"""The library's improve on digits, with a network and data of one's own."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import hypergrad
from hypergrad.data import Images, Minibatches, load, train_validation_split

OPTIONS = hypergrad.ImproveOptions(
    scales=(1.0, 4.0), rung=1, iterations=1, trajectories=2, repeats=2, final=2, judged=2
)


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))


def data() -> Images:
    return load("digits", train_size=400).train


def batches(key: int) -> Minibatches:
    kept, _ = train_validation_split(400, 0.25, seed=key, outer_step=0)
    return Minibatches(data().take(kept), 50, (key,))


def validation(key: int) -> list[tuple[Tensor, Tensor]]:
    _, held_out = train_validation_split(400, 0.25, seed=key, outer_step=0)
    own = data().take(held_out)
    return [(own.images, own.labels)]


def improve(**given: object) -> hypergrad.Improvement:
    optimizer = hypergrad.movable("sgd", rates=2, start={"learning_rate": 0.02})
    arguments = {"epochs": 2, "optimizer": optimizer, "options": OPTIONS, **given}
    loss = nn.functional.cross_entropy
    return hypergrad.improve(network, loss, batches, validation, **arguments)  # type: ignore


def test_a_usual_schedule_is_improved_and_used_in_a_plain_loop(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    found = improve()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert found.difference is not None
    assert found.difference.mean < -0.1  # 12 steps at a rate of 0.02 are few
    assert found.base.at(0, 12)["learning_rate"] == pytest.approx(0.02, rel=0.01)
    found.schedule.save(tmp_path / "improved.json")
    schedule = hypergrad.Schedule.load(tmp_path / "improved.json")
    assert schedule.origin is not None
    assert "against the base on 2 fresh trainings" in str(schedule.origin.confirmed)
    torch.manual_seed(0)
    module, train = network(), data()
    optimizer = schedule.optimizer(module)
    scheduler = schedule.scheduler(optimizer, 40)
    for step in range(40):
        picks = slice(10 * step, 10 * step + 10)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(train.images[picks]), train.labels[picks]).backward()
        optimizer.step()
        scheduler.step()
    assert "trainings" in found.summary


def test_a_history_replays_to_the_same_bits() -> None:
    whole = improve()
    for length in (0, 3, len(whole.trainings)):
        told: list = []
        again = improve(history=whole.trainings[:length], on_outcome=told.append)
        assert again.schedule == whole.schedule
        assert again.found._replace(spent=whole.found.spent) == whole.found
        assert len(told) == len(whole.trainings) - length


def test_another_seed_has_other_trainings() -> None:
    losses = [improve(seed=seed).trainings[0][1].loss for seed in (0, 1)]
    assert losses[0] != losses[1]


def test_a_module_is_reset_for_every_training() -> None:
    module = network()
    weights = [p.clone() for p in module.parameters()]
    found = hypergrad.improve(
        module,
        nn.functional.cross_entropy,
        batches,
        validation,
        epochs=2,
        options=OPTIONS,
        base="constant",
    )
    assert all(torch.equal(p, w) for p, w in zip(module.parameters(), weights, strict=True))
    losses = [outcome.loss for training, outcome in found.trainings if training.name == "x1"]
    assert all(map(math.isfinite, losses))

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(64, 10))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.w

    with pytest.raises(ValueError, match="Bare has parameters and no reset_parameters"):
        hypergrad.improve(Bare(), nn.functional.cross_entropy, batches, validation, epochs=1)


def test_networks_that_draw_take_random_directions() -> None:
    def dropping() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 10))

    given = dropping, nn.functional.cross_entropy, batches, validation
    with pytest.raises(ValueError, match="direction=random"):
        hypergrad.improve(*given, epochs=1, options=OPTIONS)
    options = replace(OPTIONS, direction="random")
    whole = hypergrad.improve(*given, epochs=1, options=options)
    torch.rand(3)  # what else is drawn does not matter
    history = whole.trainings[:3]
    again = hypergrad.improve(*given, epochs=1, options=options, history=history)
    assert again.schedule == whole.schedule
    losses = [[o.loss for _, o in each.trainings] for each in (whole, again)]
    assert losses[0] == losses[1]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="epochs=0"):
        improve(epochs=0)
    with pytest.raises(ValueError, match="no shape 'step'"):
        improve(base="step")
