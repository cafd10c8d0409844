"""What is said and refused of images before a run begins."""

from pathlib import Path

import pytest
from commands import Call
from PIL import Image

from hypergrad.config.checks import ConfigError
from hypergrad.config.composition import compose
from hypergrad.drivers.images import check_batch, load_data


@pytest.mark.parametrize("experiment", ["quickstart", "from_zero", "fig1_mnist"])
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_mistyped_data_root_is_named_and_not_made(
    call: Call, tmp_path: Path, experiment: str, dry: tuple[str, ...]
) -> None:
    place = tmp_path / "typo" / "data"
    answer = call("run", experiment, f"data.root={place}", *dry)
    assert answer.code == 2
    assert f"data.root={place}: no such folder" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_environment_is_named_where_it_is_asked(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERGRAD_DATA", str(tmp_path / "typo"))
    answer = call("run", "fig1_mnist", "--dry-run")
    assert answer.code == 2
    assert f"HYPERGRAD_DATA={tmp_path / 'typo'}: no such folder" in answer.err
    config, _ = compose("from_zero", [])  # digits come with scikit-learn
    assert len(load_data(config, stand_in=True)[0].train) == 1437
    assert call("data", "list", "--root", tmp_path / "typo").code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "images", "said"),
    [
        (["from_zero", "method.batch_size=96"], 100, "of 100 training images 95 .*=8, or more"),
        (["improve_digits", "method.batch_size=48"], 59, "of 59 training images 47 .*=4, or more"),
        (["baselines/digits", "method.batch_size=64"], 4, "of 4 training images 3 .*=1, or more"),
    ],
)
def test_a_batch_that_does_not_fit_is_named_with_the_images(
    typed: list[str], images: int, said: str
) -> None:
    experiment, override = typed
    config, _ = compose(experiment, [override])
    with pytest.raises(ConfigError, match=f"^{override}: {said}"):
        check_batch(config, images)
    check_batch(config, 2 * images + 100)
    one_less = compose(experiment, [f"method.batch_size={said.split()[4]}"])[0]
    check_batch(one_less, images)  # exactly one minibatch


def pictures(path: Path, count: int) -> Path:
    """Two classes, so many images of each, in no sets."""
    for label, name in enumerate(("ant", "bee")):
        (path / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (200 * label, i, 90)).save(path / name / f"{i}.png")
    return path


def test_few_test_images_are_said_to_tell_little(tmp_path: Path) -> None:
    typed = ["data=imagefolder", f"data.path={pictures(tmp_path, 50)}"]
    held, few = load_data(compose("from_zero", typed)[0], stand_in=False)[1]
    assert held.endswith(
        ": no train/ and test/: a fifth of each class, 20 of 100 images, is held "
        "out as the test set"
    )
    assert few == "20 test images tell an accuracy to ±22 points at best"
    config, _ = compose("from_zero", ["data.test_size=20"])  # a choice
    assert load_data(config, stand_in=True)[1] == ()


def test_a_flat_folder_of_pictures_is_run(call: Call, tmp_path: Path) -> None:
    path = pictures(tmp_path / "pictures", 60)
    typed = ("data=imagefolder", f"data.path={path}", "model=mlp", "epochs=1", "outer.steps=1")
    small = (*typed, "repeats=1", "threads=1", "figures=[]")
    answer = call("run", "from_zero", *small)
    assert answer.code == 2
    assert "of 96 training images with method.batch_size=32, has 2 steps, fewer" in answer.err
    answer = call("run", "from_zero", *small, "method.batch_size=8")
    assert answer.code == 0, answer.err
    said = [line for line in answer.err.splitlines() if "images" in line]
    assert "a fifth of each class, 24 of 120 images, is held out as the test set" in said[0]
    assert said[1] == "24 test images tell an accuracy to ±20 points at best"
    assert "UserWarning" not in answer.err
