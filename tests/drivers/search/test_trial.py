"""One trial, alone and in an ensemble."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from problems import digits_problem
from small import setting
from torch import nn

from hypergrad.core.budget import Spent
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.data import Images, Minibatches
from hypergrad.drivers.search.candidates import Candidate, candidates
from hypergrad.drivers.search.trial import Trainer, Trial
from hypergrad.models import build
from hypergrad.training.ensemble import EnsembleRun, EnsembleSize, fastest_size
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun, ScheduledRun

GRID = Candidate(0, "multistep", (0.1,), (0.9,), (5e-4,), 0.2, (0.3, 0.6, 0.8))
SGD = "baseline.schedule=multistep"
CLIPPED = InnerOptimizer(transform=ElementwiseClip(3.0))
WILD = replace(GRID, learning_rate=(1e30,))


def test_a_final_training_is_what_the_driver_of_figure_1_retrains(tmp_path: Path) -> None:
    overrides = ("repeats=1", "outer.steps=1", "hd.enabled=false", SGD)
    given, text = tiny.tiny_context(*overrides)
    run = tiny.new_run(given, text, tmp_path)
    loop = tiny.go(given, run)
    (sgd,) = [r for r in loop.progress.results if r["method"] == "sgd"]
    hand = given.config.baseline
    same = Candidate(
        0, "multistep", (hand.learning_rate,), (hand.momentum,), (hand.weight_decay,),
        hand.factor, tuple(hand.milestones),
    )  # fmt: skip
    (result,) = Trainer(given.config, given.data).train([Trial(same, seed=0, final=True)])
    assert result.test_accuracy == sgd["test_accuracy"]
    rows = tiny.table(run, "inner").query("method == 'sgd'")
    assert result.steps == rows["step"].max() == result.spent.gradients
    per_epoch = rows["train_loss"].to_numpy()[-2:]  # two rows an epoch, of 3 batches each
    assert result.train_loss == pytest.approx(per_epoch.mean(), rel=1e-6)
    assert (result.validation_accuracy, result.diverged) == (None, False)


def test_a_trial_is_validated_on_a_split_and_is_the_same_whatever_came_before() -> None:
    given, _ = setting()
    (first,) = Trainer(given.config, given.data).train([Trial(GRID, seed=1)])
    trainer = Trainer(given.config, given.data)
    trainer.train([Trial(WILD, seed=0)])
    trainer.train([Trial(GRID, seed=1, final=True)])
    (again,) = trainer.train([Trial(GRID, seed=1)])
    assert again._replace(spent=first.spent) == first
    assert first.validation_accuracy is not None
    # 5 % of 400 images
    assert first.validation_accuracy * 20 == pytest.approx(round(first.validation_accuracy * 20))
    assert first.steps == 2 * (380 // 32) == first.spent.gradients
    assert first.spent.trials == 1
    (other,) = trainer.train([Trial(GRID, seed=0)])
    assert other.train_loss != first.train_loss


def test_replayed_trials_come_to_the_same() -> None:
    """One recording serves all trials of a seed."""
    results = []
    for replay in ("never", "always"):
        given, _ = setting(f"replay={replay}")
        trainer = Trainer(given.config, given.data)
        trials = [Trial(candidate, seed=0) for candidate in (GRID, WILD, GRID)]
        found = [trainer.train([trial])[0] for trial in trials]
        results.append([str(each._replace(spent=Spent())) for each in found])
        assert results[-1][0] == results[-1][2]
    assert results[0] == results[1]


@pytest.mark.parametrize("search", ["hd", "random"])
def test_replayed_trials_come_to_the_same_together(search: str) -> None:
    """A single descent is replayed too, as an ensemble of one."""
    exact = ("precision=float64", "model.options.smooth=true", f"search={search}")
    found = {}
    for replay in ("never", "always"):
        given, _ = setting(*exact, "search.trials=4", f"replay={replay}")
        trainer = Trainer(given.config, given.data)
        trials = [Trial(each, seed=0) for each in candidates(given.config, 0)][:3]
        problem = trainer.problem(trials[0])
        found[replay] = trainer.train(trials), trainer.train(trials[:1])
        if replay == "always":
            assert problem.joint_replay is not None
            assert problem.joint_replay._recorder.recorded == 1
            assert problem.joint_replay.state is not None
            one = len(problem.joint_replay.state.theta)
            assert one == (1 if search == "hd" else 3)
    for plain, replayed in zip(found["never"], found["always"], strict=True):
        for a, b in zip(plain, replayed, strict=True):
            assert (b.ensemble, b.steps, b.spent[1:]) == (a.ensemble, a.steps, a.spent[1:])
            assert b.validation_loss == pytest.approx(a.validation_loss, rel=1e-9)
            assert b.train_loss == pytest.approx(a.train_loss, rel=1e-9)
            if search == "hd":
                assert a.values is not None
                assert b.values is not None
                for name, values in a.values.items():
                    assert b.values[name] == pytest.approx(values, rel=1e-9, abs=1e-12)


def test_a_descent_of_a_network_that_draws_is_not_replayed() -> None:
    given, _ = setting("search=hd", "search.trials=1", "replay=always")
    trainer = Trainer(given.config, given.data)
    (first,) = candidates(given.config, 0)
    problem = trainer.problem(Trial(first, 0))
    drawing = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10))
    model = FlatModel(drawing)
    own = problem._replace(inner=problem.inner._replace(model=model, theta=model.theta()))
    trainer._problem = Trial(first, 0).start, own
    (found,) = trainer.train([Trial(first, 0)])
    assert found.ensemble == 1
    assert own.joint_replay is not None
    assert own.joint_replay.state is None  # nothing was placed


def test_the_test_set_is_left_alone_where_that_is_asked() -> None:
    given, _ = setting("test_curves=false")
    trainer = Trainer(given.config, given.data)
    assert trainer.train([Trial(GRID, seed=0)])[0].test_accuracy is None
    assert trainer.train([Trial(GRID, seed=0, final=True)])[0].test_accuracy is not None


def test_a_diverged_trial_scores_chance_and_stops_after_its_epoch() -> None:
    given, _ = setting()
    trainer = Trainer(given.config, given.data)
    (lost,) = trainer.train([Trial(WILD, seed=0)])
    validation = trainer.problem(Trial(WILD, seed=0)).validation
    assert validation is not None
    assert lost.diverged
    assert lost.validation_accuracy == validation.chance
    assert lost.test_accuracy == given.data.test.chance
    assert lost.validation_loss is not None
    assert math.isnan(lost.validation_loss)
    assert lost.selection_key == (-math.inf, -math.inf)
    assert lost.steps == 11 == lost.spent.gradients  # an epoch
    assert lost.diverged_step is not None
    # the same steps by hand: finite after `diverged_step` of them, not after one more
    inner = ScheduledRun(trainer.problem(Trial(WILD, seed=0)).inner, WILD.over(22))
    for _ in range(lost.diverged_step):
        inner.advance()
    assert inner.is_finite()
    inner.advance()
    assert not inner.is_finite()


def test_hypergradient_descent_as_a_trial_keeps_its_schedule_for_the_final_training() -> None:
    given, _ = setting("search=hd", "search.trials=8")
    trainer = Trainer(given.config, given.data)
    first, *_, second = candidates(given.config, 0)
    (found,) = trainer.train([Trial(first, seed=0)])
    (again,) = trainer.train([Trial(second, seed=0)])
    assert found.spent.gradients == 2 * found.steps
    assert found.train_loss != again.train_loss  # other weights and batches
    assert found.values is not None
    assert found.values["learning_rate"][0] == 0.0
    assert {len(values) for values in found.values.values()} == {22}
    schedule = Schedule(found.values)
    (final,) = trainer.train([Trial(first, 0, final=True, schedule=schedule)])
    assert final.spent.gradients == final.steps == 2 * (400 // 32)
    assert final.values is None


@pytest.mark.parametrize("name", ["mlp", "lenet", "wrn"])
def test_members_of_an_ensemble_train_as_they_do_alone(name: str) -> None:
    options = {"wrn": {"depth": 10, "width": 1}, "mlp": {"hidden": 8}}.get(name, {})
    problem = digits_problem(name, **options)
    data = Images(problem.images[:64], problem.labels[:64])
    batches = Minibatches(data, 16, (0, "ensemble"))
    schedules = [
        sgd_schedule((0.05, 0.01), (0.9,), (1e-3,)),
        sgd_schedule((0.2,), (0.0, 0.5), (0.0,)),
        sgd_schedule((1e200,), (0.0,), (0.0,)),  # diverges, and disturbs nobody
        sgd_schedule((-0.01, 0.1), (1.1,), (5e-4,)),
    ]
    inner = InnerProblem.over_epochs(problem.model, problem.theta, batches, 2, CLIPPED)
    together = EnsembleRun(inner, schedules)
    alone = [ScheduledRun(inner, schedule) for schedule in schedules]
    while not together.done:
        together.advance()
        for run in alone:
            run.advance()
    losses = together.take_losses()
    for member, run in enumerate(alone):
        if member == 2:
            assert not together.state.theta[member].isfinite().all()
            continue
        torch.testing.assert_close(
            together.state.theta[member], run.state.theta, rtol=1e-9, atol=1e-12
        )
        assert losses[member] == pytest.approx(run.take_means()[0], rel=1e-9)
        for key, value in run.state.buffers.items():
            torch.testing.assert_close(
                together.state.buffers[key][member], value, rtol=1e-9, atol=1e-12
            )


def test_results_of_an_ensemble_are_those_of_trials_alone() -> None:
    given, _ = setting("precision=float64", "model.options.smooth=true")
    trainer = Trainer(given.config, given.data)
    trials = [Trial(c, seed=0) for c in (*candidates(given.config, 0), WILD)]
    together = trainer.train(trials)
    for trial, found in zip(trials, together, strict=True):
        (alone,) = trainer.train([trial])
        assert found.ensemble == len(trials)
        assert alone.ensemble == 1
        assert found.validation_loss == pytest.approx(alone.validation_loss, rel=1e-9, nan_ok=True)
        exact = ("validation_accuracy", "test_accuracy", "diverged", "diverged_step", "steps")
        for name in exact:
            assert getattr(found, name) == getattr(alone, name), name
        assert found.spent[1:] == alone.spent[1:]


def begin(inner: InnerProblem, schedule: Schedule) -> Callable[[int], InnerRun]:
    def of_size(size: int) -> InnerRun:
        if size == 1:
            return ScheduledRun(inner, schedule)
        return EnsembleRun(inner, [schedule] * size)

    return of_size


def test_a_network_with_dropout_is_trained_alone() -> None:
    problem = digits_problem("mlp", hidden=8)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(64, 10))
    model = FlatModel(module.double())
    batches = Minibatches(Images(problem.images[:64], problem.labels[:64]), 16, (0, "dropout"))
    schedule = sgd_schedule((0.1,), (0.9,), (0.0,))
    inner = InnerProblem.over_epochs(model, model.theta(), batches, 1, CLIPPED)
    found = fastest_size(inner, begin(inner, schedule), largest=8)
    assert (found.size, list(found.seconds)) == (1, [1])
    with pytest.raises(ValueError, match=r"Dropout.*draws random numbers.*: train one at a time"):
        EnsembleRun(inner, [schedule] * 2)


def test_steps_that_are_recorded_are_not_timed() -> None:
    taken: dict[int, int] = {}
    problem = digits_problem("mlp", hidden=8)
    batches = Minibatches(Images(problem.images[:160], problem.labels[:160]), 16, (0, "warm"))
    inner = InnerProblem.over_epochs(problem.model, problem.theta, batches, 3, CLIPPED)
    runs: list[InnerRun] = []

    def begun(size: int) -> InnerRun:
        runs.append(begin(inner, sgd_schedule((0.1,), (0.9,), (0.0,)))(size))
        return runs[-1]

    for warm_up in (1, 5):
        runs.clear()
        fastest_size(inner, begun, largest=1, warm_up=warm_up)
        taken[warm_up] = runs[0].step
    assert taken == {1: 6, 5: 10}


def test_measuring_ensembles_changes_nothing() -> None:
    module = build("mlp", (1, 8, 8), 10, seed=0, options={"hidden": 8})
    problem = digits_problem("mlp", hidden=8)
    model = FlatModel(module.double())
    theta = model.theta()
    batches = Minibatches(Images(problem.images[:64], problem.labels[:64]), 16, (0, "probe"))
    schedule = sgd_schedule((0.1,), (0.9,), (0.0,))
    inner = InnerProblem.over_epochs(model, theta, batches, 1, CLIPPED)
    size, seconds, skipped = fastest_size(inner, begin(inner, schedule), largest=16)
    assert size in seconds
    assert skipped == {}
    assert list(seconds) in ([1, 4], [1, 4, 16])
    assert all(value > 0 for value in seconds.values())
    assert torch.equal(theta, model.theta())


class Wrong(torch.nn.Module):
    """Fails where a batch dimension is hidden, as it is in an ensemble."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.linear, self.text = torch.nn.Linear(64, 10), text

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch._C._functorch.is_batchedtensor(self.linear.weight):
            raise RuntimeError(self.text)
        return self.linear(x.flatten(1))


def size_with(text: str) -> EnsembleSize:
    problem = digits_problem("mlp", hidden=8)
    model = FlatModel(Wrong(text).double())
    batches = Minibatches(Images(problem.images[:64], problem.labels[:64]), 16, (0, "wrong"))
    schedule = sgd_schedule((0.1,), (0.9,), (0.0,))
    inner = InnerProblem.over_epochs(model, model.theta(), batches, 1, CLIPPED)
    return fastest_size(inner, begin(inner, schedule), largest=16)


def test_a_limit_that_ends_the_measurement_of_ensembles_is_said() -> None:
    found = size_with("Batching rule not implemented for aten::thing")
    assert (found.size, list(found.seconds)) == (1, [1])
    reason = "not batched by vmap: Batching rule not implemented for aten::thing"
    assert found.skipped == {4: reason}
    assert str(found).endswith(f"; 4 skipped: {reason}")


def test_a_mistake_in_an_ensemble_is_raised() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        size_with("mat1 and mat2 shapes cannot be multiplied")
