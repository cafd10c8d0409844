"""Whole runs at smoke scale on real images that are not in the package."""

import tarfile
from pathlib import Path

import pytest
from tiny import go, new_run, table

from hypergrad.config import compose
from hypergrad.setting import prepare


@pytest.mark.slow
def test_figure_1_runs_on_mnist(shared_data: Path, tmp_path: Path) -> None:
    config, text = compose(
        "fig1", ["data=mnist", "model=lenet", "scale=smoke", f"data.root={shared_data}"]
    )
    setting = prepare(config)
    assert setting.data.shape == (1, 28, 28)
    run = new_run(setting, text, tmp_path)
    go(setting, run)
    assert set(table(run, "inner")["method"]) == {
        "ours",
        "hd",
        "ours_retrained",
        "hd_retrained",
        "sgd",
    }


@pytest.mark.slow
def test_figure_1_runs_on_a_folder_of_cifar_images(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "cifar10-images.tar.gz"
    if not archive.is_file():
        pytest.skip(f"no {archive}")
    kept: dict[str, int] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            folder = str(Path(member.name).parent)
            if member.isfile() and kept.get(folder, 0) < 50:
                kept[folder] = kept.get(folder, 0) + 1
                tar.extract(member, tmp_path / "images", filter="data")
    (root,) = {path.parent for path in (tmp_path / "images").rglob("train")}
    config, text = compose(
        "fig1", ["data=imagefolder", f"data.path={root}", "scale=smoke", "outer.steps=2"]
    )
    setting = prepare(config)
    assert setting.data.shape == (3, 32, 32)
    assert setting.data.n_classes == 10
    assert setting.parameters == 175_066  # WRN-16-1
    run = new_run(setting, text, tmp_path)
    go(setting, run)
    assert len(table(run, "outer")) == 2 * 7
