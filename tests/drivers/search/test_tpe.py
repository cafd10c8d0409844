"""Proposals by tree-structured Parzen estimators."""

import math

import pytest

from hypergrad.config import schema
from hypergrad.config.composition import compose
from hypergrad.drivers.search.candidates import candidates


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[optuna\]'"):
        compose("baselines/mnist", ["search=tpe"])
    compose("baselines/mnist", ["search=hyperband"])


optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[optuna]'")

from hypergrad.drivers.search.tpe import TpeStudy  # noqa: E402


def score(point: tuple[float, ...]) -> float:
    return 1 - sum((x - 0.3) ** 2 for x in point)


def searched(study: TpeStudy, trials: int) -> tuple[list[tuple[float, ...]], list[float]]:
    points, told = [], []
    for _ in range(trials):
        points.append(study.point(told))
        told.append(score(points[-1]))
    return points, told


def test_it_is_optuna_s_own_search() -> None:
    seed = TpeStudy(3)._seed
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))

    def objective(trial: optuna.Trial) -> float:
        return score(tuple(trial.suggest_float(f"x{axis}", 0, 1) for axis in range(3)))

    study.optimize(objective, n_trials=25)
    expected = [tuple(trial.params[f"x{axis}"] for axis in range(3)) for trial in study.trials]
    assert searched(TpeStudy(3), 25)[0] == expected


def test_a_study_begun_anew_anywhere_goes_on_to_the_same_points() -> None:
    points, told = searched(TpeStudy(0), 30)
    for killed in (0, 1, 10, 17, 29):
        fresh = TpeStudy(0)
        assert fresh.point(told[:killed]) == points[killed]
        assert fresh.point(told[:killed]) == points[killed]  # asking twice moves nothing on
        assert fresh.point(told[:29]) == points[29]
    assert TpeStudy(1).point([]) != points[0]


def test_another_past_has_another_future_and_the_first_one_is_still_to_be_had() -> None:
    study = TpeStudy(0)
    points, told = searched(study, 30)
    worse = [-value for value in told[:29]]
    assert study.point(worse) != points[29]
    assert study.point(told[:29]) == points[29]


def test_it_comes_nearer_to_the_optimum_than_its_random_beginning() -> None:
    for seed in range(5):
        _, told = searched(TpeStudy(seed), 60)
        assert max(told[10:]) > max(told[:10])


def test_candidates_wait_for_what_came_before_and_are_of_the_baseline_s_schedule() -> None:
    config, _ = compose("baselines/mnist", ["search=tpe", "search.trials=12"])
    (first,) = candidates(config, 0)
    assert (first.schedule, first.factor, first.epochs) == ("cosine", None, None)

    def found(candidate):  # noqa: ANN001, ANN202
        diverged = candidate.learning_rate[0] > 0.1
        return (-math.inf, -math.inf) if diverged else (candidate.learning_rate[0], 0.0)

    whole = list(candidates(config, 0, found))
    assert [c.number for c in whole] == list(range(12))
    assert whole[0] == first
    five = list(candidates(config, 0, lambda c: found(c) if c.number < 4 else None))
    assert five == whole[:5]
