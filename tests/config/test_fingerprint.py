"""What makes two runs the same."""

from pathlib import Path

import pytest

from hypergrad.config.composition import compose
from hypergrad.config.fingerprint import digest


def name_of(*overrides: str, experiment: str = "baselines/digits") -> str:
    return digest(compose(experiment, overrides)[0])


@pytest.mark.parametrize(
    "override",
    ["seed=3", "repeats=5", "data.root=/elsewhere", "name=mine", "search.trials=7", "figures=[]"],
)
def test_what_does_not_change_a_result_is_not_in_it(override: str) -> None:
    assert name_of(override) == name_of()


def test_trajectories_are_in_it() -> None:
    one, again, three = (
        name_of(*more, experiment="from_zero")
        for more in ((), ["outer.trajectories=1"], ["outer.trajectories=3"])
    )
    assert one == again
    assert one != three


@pytest.mark.parametrize(
    "override", ["epochs=3", "data=mnist", "data.train_size=50", "search=random"]
)
def test_what_changes_a_result_is(override: str) -> None:
    assert name_of(override) != name_of()


def test_two_folders_of_images_are_two_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    roses, tulips, again = (
        name_of("data=imagefolder", f"data.path={path}")
        for path in (tmp_path / "roses", "tulips", "roses")
    )
    assert roses == again
    assert roses != tulips


def test_what_settings_name_is_told_apart_by_content(tmp_path: Path) -> None:
    def named(folder: str, data: str | None = None, model: str | None = None) -> str:
        config, _ = compose("baselines/digits", ["data=imagefolder", f"data.path={folder}"])
        return digest(config, data_fingerprint=data, model_source=model)

    here, there = (str(tmp_path / name) for name in ("here", "there"))
    assert len({named(here), named(here, "a"), named(here, "b"), named(here, "a", "a")}) == 4
    assert named(here, "a") == named(there, "a")  # a copy of a folder is the same data
