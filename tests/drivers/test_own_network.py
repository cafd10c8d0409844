"""A user's own network: found without an import, imported only from where the run began."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from commands import Call, only_run

from hypergrad.config.composition import compose
from hypergrad.config.schema import RunConfig
from hypergrad.drivers.own_network import origin_of

QUICK = ("scale=smoke", "outer.steps=1", "repeats=1", "epochs=1", "figures=[]", "threads=1")
NET = """
from pathlib import Path
from torch import nn
from {0}_blocks import WIDTH
Path("{0}_ran").touch()
class Net(nn.Sequential):
    def __init__(self, shape, classes):
        c, h, w = shape
        super().__init__(nn.Flatten(), nn.Linear(c * h * w, WIDTH), nn.Linear(WIDTH, classes))
"""


def forget(name: str) -> None:
    for module in [one for one in sys.modules if one.startswith(name)]:
        del sys.modules[module]
    importlib.invalidate_caches()


def write(folder: Path, name: str, width: int = 3) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{name}.py").write_text(NET.format(name))
    (folder / f"{name}_blocks.py").write_text(f"WIDTH = {width}\n")
    forget(name)


def begun(call: Call, place: Path, name: str) -> Path:
    """An interrupted run with a network of its own in the folder that it began in."""
    write(place, name)
    network = ("model=custom", f"model.name={name}:Net")
    answer = call("run", "from_zero", *network, *QUICK, f"outputs={place / 'results'}")
    assert answer.code == 0, answer.err
    run = only_run(place / "results")
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"status": "interrupted"}))
    (place / f"{name}_ran").unlink()
    forget(name)
    return run


def config_of(name: str) -> RunConfig:
    return compose("from_zero", ["model=custom", f"model.name={name}"])[0]


def test_a_network_is_imported_again_from_where_its_run_began(call: Call, tmp_path: Path) -> None:
    run = begun(call, tmp_path, "net_again")
    first = json.loads((run / "provenance.json").read_text())
    assert first["model_folder"] == str(tmp_path)
    assert len(first["model_code"]) == 64
    assert call("run", "--resume", run).code == 0
    assert (tmp_path / "net_again_ran").exists()


@pytest.mark.parametrize("what", ["source", "import", "folder", "record"])
def test_otherwise_it_takes_the_word_of_the_user(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name = f"net_{what}"
    run = begun(call, tmp_path, name)
    ran = tmp_path / f"{name}_ran"
    if what == "source":
        (tmp_path / f"{name}.py").write_text(NET.format(name) + "# other\n")
    elif what == "import":
        (tmp_path / f"{name}_blocks.py").write_text("WIDTH = 4\n")
    elif what == "folder":
        write(tmp_path / "elsewhere", name)
        monkeypatch.chdir(tmp_path / "elsewhere")
        ran = tmp_path / "elsewhere" / f"{name}_ran"
    else:
        (run / "provenance.json").write_text("{}")
    why = {
        "source": "the source of its network is another",
        "import": "the source of its network is another",
        "folder": "the run began in another folder",
        "record": "the run does not say where it began",
    }[what]
    for command in (("run", "--resume", run), ("confirm", run, "--trainings", "2")):
        answer = call(*command)
        assert (answer.code, len(answer.err.splitlines())) == (2, 1)
        assert why in answer.err
        assert ("--trust-model" in answer.err) == (what in ("folder", "record"))
        assert not ran.exists()
    if what in ("folder", "record"):  # the same source, which may be trusted
        assert call("run", "--resume", run, "--trust-model").code == 0
        assert ran.exists()


def test_nothing_in_a_run_directory_is_imported(call: Call, tmp_path: Path) -> None:
    run = begun(call, tmp_path, "net_inside")
    write(run, "evil_inside")
    module = ".".join((*run.relative_to(tmp_path).parts, "evil_inside"))
    config = run / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("net_inside:Net", f"{module}:Net"))
    for command in (
        ("run", "--resume", run),
        ("run", "--resume", run, "--trust-model"),
        ("run", "from_zero", "model=custom", f"model.name={module}:Net", *QUICK),
    ):
        answer = call(*command)
        assert (answer.code, len(answer.err.splitlines())) == (2, 1)
        assert "lies in the run directory" in answer.err
        assert not (tmp_path / "evil_inside_ran").exists()


def test_what_came_with_a_run_is_not_trusted_whatever_the_run_records(
    call: Call, tmp_path: Path
) -> None:
    run = begun(call, tmp_path, "net_beside")
    write(run.parent, "evil_beside")
    module = ".".join((*run.parent.relative_to(tmp_path).parts, "evil_beside"))
    config = run / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("net_beside:Net", f"{module}:Net"))
    origin = origin_of(config_of(f"{module}:Net"))
    assert origin.model_folder == str(tmp_path)
    record = json.loads((run / "provenance.json").read_text())
    record["sessions"][0] |= origin._asdict()
    (run / "provenance.json").write_text(json.dumps(record))
    answer = call("run", "--resume", run)
    assert answer.code == 2
    assert "it came with the run" in answer.err
    assert not (tmp_path / "evil_beside_ran").exists()


def test_a_source_is_found_without_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "found_package" / "below"
    package.mkdir(parents=True)
    marker = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    (package / "__init__.py").write_text(marker)
    (package / "net.py").write_text("from . import beside\nfrom .. import top\n")
    (package / "beside.py").write_text("import json\nimport torch\n")
    (tmp_path / "found_package" / "top.py").write_text("x = (\n")  # which Python cannot read
    first = origin_of(config_of("found_package.below.net:Net"))
    assert first.model_folder == str(tmp_path)
    for changed in (package / "__init__.py", package / "beside.py", package.parent / "top.py"):
        before = origin_of(config_of("found_package.below.net:Net"))
        changed.write_text(changed.read_text() + "# more\n")
        assert origin_of(config_of("found_package.below.net:Net")) != before
    assert origin_of(config_of("found_package.below.nothing:Net")) == (None, None)
    assert origin_of(config_of("json.decoder:JSONDecoder")).model_code is not None
    assert not (tmp_path / "ran").exists()
    assert not any(name.startswith("found_package") for name in sys.modules)
