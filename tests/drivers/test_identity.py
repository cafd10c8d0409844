"""A run goes on with what it began with: the same pixels, the same network."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from commands import Call, only_run
from PIL import Image

from hypergrad.config.composition import compose
from hypergrad.config.fingerprint import digest
from hypergrad.drivers import identity
from hypergrad.drivers.identity import source_digest
from hypergrad.models import Network, resolve

QUICK = ("scale=smoke", "outer.steps=1", "repeats=1", "epochs=1", "figures=[]")
SIZES = ("data.train_size=60", "data.test_size=40", "data.image_size=null")
NET = (
    "from torch import nn\n"
    "from blocks_{0} import SCALE, head\n"
    "class Net(nn.Sequential):\n"
    "    def __init__(self, shape, classes):\n"
    "        c, h, w = shape\n"
    "        super().__init__(nn.Flatten(), head(c * h * w, classes))\n"
)
HEAD = "SCALE = 1\nfrom torch import nn\ndef head(n, classes):\n    return nn.Linear(n, classes)\n"


def own_network(folder: Path, name: str, net: str = NET, head: str = HEAD) -> None:
    """Write a network in two files, as if this were a new process."""
    for module in (f"net_{name}", f"blocks_{name}"):
        sys.modules.pop(module, None)
    (folder / f"net_{name}.py").write_text(net.format(name))
    (folder / f"blocks_{name}.py").write_text(head)
    importlib.invalidate_caches()


def colours(folder: Path, shift: int = 0) -> None:
    for split in ("train", "test"):
        for label, name in enumerate("ab"):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for i in range(40):
                colour = (60 * label + i + shift, 5 * i, 90)
                Image.new("RGB", (4, 4), colour).save(folder / split / name / f"{i}.png")


def interrupt(run: Path) -> None:
    """Make a finished run one that is to go on."""
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"status": "interrupted"}))


def provenance(run: Path) -> dict:
    return json.loads((run / "provenance.json").read_text())


def test_a_run_does_not_go_on_with_other_pixels(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "colours"
    colours(folder)
    outputs = tmp_path / "outputs"
    data = ("data=imagefolder", f"data.path={folder}", "method.batch_size=10", *SIZES)
    overrides = (*data, "model=mlp", *QUICK, f"outputs={outputs}")
    answer = call("run", "from_zero", *overrides)
    assert answer.code == 0, answer.err
    run = only_run(outputs)
    recorded = provenance(run)
    assert len(recorded["data_fingerprint"]) == 32
    assert recorded["model_source"] is None
    settings = json.loads((run / "summary.json").read_text())["settings"]
    config, _ = compose("from_zero", overrides)
    assert settings["setup"] == digest(config, data_fingerprint=recorded["data_fingerprint"])
    interrupt(run)
    assert call("run", "--resume", run).code == 0
    interrupt(run)
    colours(folder, shift=1)
    before = provenance(run)
    answer = call("run", "--resume", run)
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert "its data holds other pixels or labels" in answer.err
    assert "or start a new run" in answer.err
    assert provenance(run) == before
    colours(folder)  # written anew, the same
    assert call("run", "--resume", run).code == 0


@pytest.mark.parametrize("changed", ["net", "head"])
def test_a_run_does_not_go_on_with_another_network(
    call: Call, tmp_path: Path, changed: str
) -> None:
    own_network(tmp_path, changed)
    arguments = ("model=custom", f"model.name=net_{changed}:Net", f"outputs={tmp_path / 'outputs'}")
    answer = call("run", "from_zero", *arguments, *QUICK)
    assert answer.code == 0, answer.err
    run = only_run(tmp_path / "outputs")
    assert len(provenance(run)["model_source"]) == 64
    interrupt(run)
    own_network(tmp_path, changed)
    assert call("run", "--resume", run).code == 0
    interrupt(run)
    own_network(
        tmp_path, changed, **{changed: (NET if changed == "net" else HEAD) + "\nscale = 2\n"}
    )
    answer = call("run", "--resume", run)
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert "the source of its network is another" in answer.err


def test_a_search_is_not_helped_with_other_pixels(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hypergrad.runs.directory import RunDirectory

    folder = tmp_path / "colours"
    colours(folder)
    outputs = f"outputs={tmp_path / 'outputs'}"
    search = ("search=random", "search.trials=1", "model=mlp", "scale=smoke", "repeats=1")
    data = ("data=imagefolder", f"data.path={folder}", "method.batch_size=10")
    answer = call("baselines", "digits", *search, *data, *SIZES, outputs)
    assert answer.code == 0, answer.err
    run = only_run(tmp_path / "outputs")
    interrupt(run)
    colours(folder, shift=1)
    monkeypatch.setattr(RunDirectory, "is_held", lambda self: True)  # by the process that leads
    answer = call("run", "--resume", run)
    assert answer.code == 2
    assert "its data holds other pixels" in answer.err


def test_a_source_is_all_that_a_package_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest_of(name: str, **changed: str) -> str | None:
        files = {
            "__init__": "START = 1",
            "nets": "from .widths import WIDTH\nfrom . import deep\nclass Net: ...",
            "widths": "from .numbers import WIDTH",
            "numbers": "import json\nfrom nets_beside import WIDTH",
            "deep": "try: from .... import far\nexcept ImportError: import dependency",
            "unused": "",
            "nets_beside": "WIDTH = 8",
            "dependency": "",
        } | changed
        folder = tmp_path / name
        (folder / "nets_package").mkdir(parents=True)
        for module, text in files.items():
            place = {"dependency": "site-packages", "nets_beside": "."}.get(module, "nets_package")
            path = folder / place
            path.mkdir(exist_ok=True)
            (path / f"{module}.py").write_text(text + "\n")
        for module in [m for m in sys.modules if m.startswith(("nets_", "dependency"))]:
            del sys.modules[module]
        importlib.invalidate_caches()
        monkeypatch.syspath_prepend(folder / "site-packages")
        return source_digest(resolve("nets_package.nets:Net", beside=folder))

    first = digest_of("first")
    assert digest_of("same", unused="x = 1", dependency="x = 1") == first  # installed, not own
    for i, module in enumerate(("__init__", "nets", "widths", "numbers", "deep", "nets_beside")):
        text = {
            "nets": "from .widths import WIDTH\nfrom . import deep\nclass Net: x = 1",
            "widths": "from .numbers import WIDTH\nx = 1",
        }
        changed = text.get(module, "WIDTH = 9")
        assert digest_of(str(i), **{module: changed}) != first


def test_the_library_is_not_the_users_source() -> None:
    lenet, mlp = sys.modules["hypergrad.models.lenet"], sys.modules["hypergrad.models.mlp"]
    mine = ModuleType("mine")
    mine.__file__ = lenet.__file__  # as beside the checkout of this library
    assert not identity._belongs(mlp, mine)
    json_module = ModuleType("json")  # of a Python that is installed below
    json_module.__file__ = mlp.__file__
    assert not identity._belongs(json_module, mine)
    beside = ModuleType("beside")
    beside.__file__ = mlp.__file__
    assert identity._belongs(beside, mine)
    assert identity._belongs(mlp, lenet)


def test_a_source_is_all_of_the_users_own_files(tmp_path: Path) -> None:
    def network(**files: str) -> Network:
        own_network(tmp_path, "own", **files)
        return resolve("net_own:Net", beside=tmp_path)

    first = source_digest(network())
    assert source_digest(network()) == first
    assert source_digest(network(net=NET + "# note\n")) != first
    assert source_digest(network(head=HEAD + "# note\n")) != first
    before = network()
    assert source_digest(before) == first
    (tmp_path / "net_own.py").write_text("edited while it runs\n")
    assert source_digest(before) == first  # what was imported, not what lies there now
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    own_network(moved, "own")
    assert source_digest(resolve("net_own:Net", beside=moved)) == first
    assert source_digest(dict) is None  # pyright: ignore[reportArgumentType]
