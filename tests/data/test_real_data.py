"""Whole runs at smoke scale on real images that are not in the package."""

import tarfile
from pathlib import Path

import pandas as pd
import pytest
import small
from tiny import go, new_run, table

from hypergrad.config.composition import compose
from hypergrad.drivers.context import prepare


@pytest.fixture(scope="module")
def cifar_images(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty training and fifty test images a class, unpacked."""
    images = tmp_path_factory.mktemp("images")
    archive = shared_data / "cifar10-images.tar.gz"
    if not archive.is_file():
        pytest.skip(f"no {archive}")
    kept: dict[str, int] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            folder = str(Path(member.name).parent)
            if member.isfile() and kept.get(folder, 0) < 50:
                kept[folder] = kept.get(folder, 0) + 1
                tar.extract(member, images, filter="data")
    (root,) = {path.parent for path in images.rglob("train")}
    return root


@pytest.mark.slow
def test_figure_1_runs_on_mnist(shared_data: Path, tmp_path: Path) -> None:
    config, text = compose(
        "fig1", ["data=mnist", "model=lenet", "scale=smoke", f"data.root={shared_data}"]
    )
    context = prepare(config)
    assert context.data.shape == (1, 28, 28)
    run = new_run(context, text, tmp_path)
    go(context, run)
    assert set(table(run, "inner")["method"]) == {
        "ours",
        "hd",
        "ours_retrained",
        "hd_retrained",
        "sgd",
    }


@pytest.mark.slow
def test_figure_1_runs_on_a_folder_of_cifar_images(cifar_images: Path, tmp_path: Path) -> None:
    config, text = compose(
        "fig1", ["data=imagefolder", f"data.path={cifar_images}", "scale=smoke", "outer.steps=2"]
    )
    context = prepare(config)
    assert context.data.shape == (3, 32, 32)
    assert context.data.n_classes == 10
    assert context.parameters == 175_066  # WRN-16-1
    run = new_run(context, text, tmp_path)
    go(context, run)
    assert len(table(run, "outer")) == 2 * 7


@pytest.mark.slow
def test_the_cifar_10_grid_runs_on_a_folder_of_images(cifar_images: Path, tmp_path: Path) -> None:
    config, text = compose(
        "baselines/cifar10",
        [
            "data=imagefolder",
            f"data.path={cifar_images}",
            "scale=smoke",
            "epochs=1",
            "data.train_size=100",
            "search.grid.learning_rate=[0.2]",
            "search.grid.momentum=[0.9]",
        ],
    )
    given = prepare(config)
    assert (given.data.shape, given.parameters) == ((3, 32, 32), 175_066)
    run = small.new_run(given, text, tmp_path)
    small.lead(given, run)
    trials = pd.read_csv(run.path / "trials.csv")
    assert len(trials) == 3 * 3
    assert set(trials["factor"]) == {0.1, 0.2, 0.4}
    assert trials["validation_accuracy"].between(0, 1).all()


@pytest.mark.slow
def test_random_schedules_are_tried_on_mnist(shared_data: Path, tmp_path: Path) -> None:
    overrides = ["search=random", "scale=smoke", "search.trials=4", f"data.root={shared_data}"]
    config, text = compose("baselines/mnist", overrides)
    given = prepare(config)
    run = small.new_run(given, text, tmp_path)
    small.lead(given, run)
    assert len(pd.read_csv(run.path / "trials.csv")) == 4
