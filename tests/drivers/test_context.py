"""What a configuration stands for: the process left alone, one's own networks, words."""

import sys
from pathlib import Path

import pytest
import torch
from float32 import float32_precision
from tiny import tiny_context

from hypergrad.config.checks import ConfigError
from hypergrad.config.composition import compose
from hypergrad.config.wording import naming_settings
from hypergrad.drivers.context import computing, make_model, prepare
from hypergrad.models import MODELS

NETWORK = """
import sys
from torch import nn
sys.path.insert(0, "/added/by/the/module")
class Net(nn.Sequential):
    def __init__(self, shape, classes):
        c, h, w = shape
        super().__init__(nn.Flatten(), nn.Linear(c * h * w, classes))
"""


def test_preparing_leaves_the_process_as_it_is() -> None:
    before = torch.get_num_threads(), float32_precision()
    tiny_context("threads=3")
    assert (torch.get_num_threads(), float32_precision()) == before


def test_computing_sets_threads_and_precision_and_puts_them_back() -> None:
    config, _ = compose("from_zero", ["threads=3"])
    before = torch.get_num_threads(), float32_precision()

    def within() -> None:
        with computing(config):
            assert (torch.get_num_threads(), float32_precision()) == (3, ["ieee", "ieee"])
            raise KeyError

    with pytest.raises(KeyError):
        within()
    assert (torch.get_num_threads(), float32_precision()) == before


def test_a_network_by_import_path_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pathnets.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "pathnets", raising=False)
    known, before = dict(MODELS), list(sys.path)
    config, _ = compose("from_zero", ["model=custom", "model.name=pathnets:Net"])
    model = make_model(config, prepare(config).data, 0)
    assert model.size == 64 * 10 + 10
    assert known == MODELS
    # What the module itself put there stays, and so does an equal entry that was there before.
    assert sys.path == ["/added/by/the/module", *before]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuchmodule:Net", "model.name=nosuchmodule:Net: no network .*No module named"),
        ("nosuch", "model.name=nosuch: unknown model 'nosuch': use one of lenet, mlp, wrn, or"),
    ],
)
def test_a_network_that_is_not_there_is_named(name: str, message: str) -> None:
    config, _ = compose("from_zero", ["model=custom", f"model.name={name}"])
    with pytest.raises(ConfigError, match=message):
        prepare(config)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("use strategy='loop'", "use hvp.strategy=loop"),
        ("precision='tf32' needs: precision=None", "hvp.precision=tf32 needs: hvp.precision=null"),
        ("use forward mode with strategy='loop'", "use method=shared with hvp.strategy=loop"),
        ("train_size=16: too many, root=FOLDER", "data.train_size=16: too many, data.root=FOLDER"),
        ("data.root=FOLDER and steps=3", "data.root=FOLDER and steps=3"),
    ],
)
def test_the_librarys_words_become_settings(said: str, read: str) -> None:
    def fail() -> None:
        with naming_settings():
            raise ValueError(said)

    with pytest.raises(ValueError, match=r"\w") as caught:
        fail()
    assert str(caught.value) == read
