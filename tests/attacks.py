"""What a stranger may have done to a run directory: each attack does one thing to a copy of one.

`BYSTANDER` is a file beside the outputs, and `VICTIM` another run: neither may ever change.
"""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

SECRET = "SECRET-of-the-environment"
EVIL = "from pathlib import Path\nPath({!r}).write_text('it ran')\n"
ESCAPES = "\x1b]0;owned\x07\x1b[31m\x9b31m\u202e[bold][/path]<script>=cmd|' /C calc'!A0"

Attack = Callable[[Path, Path], None]  # the run, and the folder of bystanders


def edit(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def _summary(**entries: object) -> Attack:
    return lambda run, _: edit(run / "summary.json", **entries)


def _replaced(name: str, content: bytes) -> Attack:
    return lambda run, _: _put(run / name, content)


def _put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _linked(name: str, target: str) -> Attack:
    def attack(run: Path, beside: Path) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(beside / target)

    return attack


def _pipe(name: str) -> Attack:
    def attack(run: Path, _: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return attack


def _config(old: str, new: str) -> Attack:
    def attack(run: Path, _: Path) -> None:
        path = run / ".hydra" / "config.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return attack


def _appended(name: str, text: str) -> Attack:
    return lambda run, _: _put(run / name, (run / name).read_bytes() + text.encode())


def _sparse(name: str, size: int) -> Attack:
    def attack(run: Path, _: Path) -> None:
        with (run / name).open("r+b") as file:
            file.truncate(size)

    return attack


def _names_evil(run: Path, beside: Path, place: Path, module: str) -> None:
    (place / "evil.py").write_text(EVIL.format(str(beside / "ran")))
    path = run / ".hydra" / "config.yaml"
    path.write_text(path.read_text().replace("name: mlp", f"name: {module}:Net"))


def _evil_inside(run: Path, beside: Path) -> None:
    module = ".".join((*run.relative_to(Path.cwd()).parts, "evil"))
    _names_evil(run, beside, run, module)


def _evil_beside(run: Path, beside: Path) -> None:
    """In the folder that was unpacked, with a record that says it has always been there."""
    module = ".".join((*run.parent.relative_to(Path.cwd()).parts, "evil"))
    _names_evil(run, beside, run.parent, module)


def _evil_here(run: Path, beside: Path) -> None:
    _names_evil(run, beside, Path.cwd(), "evil")


def _members(name: str) -> Attack:
    def attack(run: Path, _: Path) -> None:
        text = (run / ".hydra" / "config.yaml").read_text()
        entry = {"name": name, "overrides": [], "config": text, "members": []}
        pool = {"jobs": 1, "executor": "local", "gpus": 0.0}
        content = {"sweep": True, "pool": pool, "members": [entry]}
        (run / "members.json").write_text(json.dumps(content))

    return attack


_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

ATTACKS: dict[str, Attack] = {
    "headline is a list": _summary(headline=[1, 2]),
    "headline is markup": _summary(headline="done [/path]"),
    "headline escapes": _summary(headline=ESCAPES),
    "message escapes": _summary(headline="", status="failed", message=ESCAPES),
    "status is an object": _summary(status={}),
    "status escapes": _summary(status=ESCAPES),
    "status is long": _summary(status="x" * 10**6),
    "progress is a list": _summary(progress=[1]),
    "fraction is a text": _summary(progress={"fraction": "most"}),
    "fraction is infinite": _summary(progress={"fraction": float("inf")}),
    "results are numbers": _summary(results=[1, 2]),
    "results lack everything": _summary(results=[{}]),
    "settings escape": _summary(settings={"data": ESCAPES, "model": r"$\input{/etc/passwd}$"}),
    "settings are objects": _summary(settings={"outer_steps": {}, "epochs": []}),
    "experiment escapes": _summary(experiment=ESCAPES),
    "figures are numbers": _summary(figures=[1, {}]),
    "summary is a list": _replaced("summary.json", b"[]"),
    "summary is nested": _replaced("summary.json", b"[" * 10**5),
    "summary is cut short": _replaced("summary.json", b'{"status": "fini'),
    "summary is no text": _replaced("summary.json", b"\xff\xfe\x00"),
    "summary has a huge number": _replaced("summary.json", b'{"x": 1' + b"0" * 10**4 + b"}"),
    "summary is large": _sparse("summary.json", 300 * 2**20),
    "inner.csv is large": _sparse("inner.csv", 100 * 2**20),
    "outer.csv unpacks to much": lambda run, _: (
        (run / "outer.csv").unlink(),
        (run / "outer.csv.gz").write_bytes(gzip.compress(bytes(100 * 2**20), 1)),
    )[0],
    "inner.csv has a long field": _appended("inner.csv", "x" * 2 * 10**5 + "\n"),
    "inner.csv is no text": _appended("inner.csv", "\x00\n"),
    "outer.csv is empty": _replaced("outer.csv", b""),
    "outer.csv has huge numbers": _appended("outer.csv", "9" * 5000 + ",0\n"),
    "schedule is a number": _replaced("schedule.json", b"3"),
    "schedules are numbers": _replaced("schedule.json", b'{"schedules": [1]}'),
    "schedules lack everything": _replaced("schedule.json", b'{"schedules": [{}]}'),
    "provenance is a list": _replaced("provenance.json", b"[]"),
    "sessions are numbers": _replaced("provenance.json", b'{"sessions": [1]}'),
    "lock is a link": _linked(".lock", "bystander"),
    "checkpoints are a link": _linked("checkpoints", "victim/checkpoints"),
    "inner.csv is a link": _linked("inner.csv", "victim/inner.csv"),
    "figures are a link": _linked("figures", "victim/figures"),
    "a figure is a link": _linked("figures/fig1.csv", "bystander"),
    "summary is a link": _linked("summary.json", "bystander"),
    ".hydra is a link": _linked(".hydra", "victim/.hydra"),
    "summary is a pipe": _pipe("summary.json"),
    "inner.csv is a pipe": _pipe("inner.csv"),
    "schedule is a pipe": _pipe("schedule.json"),
    "lock is a pipe": _pipe(".lock"),
    "config is a pipe": _pipe(".hydra/config.yaml"),
    "overrides are a pipe": _pipe(".hydra/overrides.yaml"),
    "a member elsewhere": _members("../../../beside/victim"),
    "a member is a path": _members("/tmp"),
    "a member is hidden": _members(".."),
    "a member is a number": _members(3),  # pyright: ignore[reportArgumentType]
    "members are a list": _replaced("members.json", b"[]"),
    "members lack everything": _replaced("members.json", b'{"members": [{}]}'),
    "config asks the environment": _config("name: mlp", "name: ${oc.env:SECRET}"),
    "config asks for the environment's parts": _config("outputs: ", "outputs: ${oc.env:SECRET}/"),
    "config refers to itself": _config("name: mlp", "name: ${model.name}"),
    "config has a tag": _config("name: mlp", "name: !!python/object/apply:os.system [true]"),
    "config is a bomb": _appended(".hydra/config.yaml", _BOMB),
    "config is nested": _appended(".hydra/config.yaml", "x: " + "[" * 10**4 + "\n"),
    "config is no text": _replaced(".hydra/config.yaml", b"\xff\xfe"),
    "config is a list": _replaced(".hydra/config.yaml", b"- 1\n"),
    "config is empty": _replaced(".hydra/config.yaml", b""),
    "config is large": _sparse(".hydra/config.yaml", 300 * 2**20),
    "overrides are computed": _replaced(".hydra/overrides.yaml", b"- name=${oc.env:SECRET}\n"),
    "overrides are nested": _replaced(".hydra/overrides.yaml", b"[" * 10**4),
    "many threads": _config("threads: '1'", "threads: '1000000000'"),
    "many jobs": _config("jobs: 1", "jobs: 1000000000"),
    "a huge network": _config("hidden: 8", "hidden: 1000000000"),
    "a deep network": _config("hidden: 8", "depth: 1000000000"),
    "many seeds": _config("repeats: 1", "repeats: 1000000000"),
    "a data root": _config("root: null", "root: beside/strange/place"),
    "evil inside the run": _evil_inside,
    "evil beside the run": _evil_beside,
    "evil here": _evil_here,
}
