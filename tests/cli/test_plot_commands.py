"""`hypergrad plot` as a user meets it: what is drawn, what is said, exit codes."""

import json
from pathlib import Path

import pytest
from searches import trial, write_search
from table1_runs import write_table

from hypergrad.cli import plot_commands
from hypergrad.cli.errors import complain
from hypergrad.runs.errors import RunFailed

Capture = pytest.CaptureFixture[str]


def write(run: Path, **summary: object) -> Path:
    write_search(run, [trial(0, seed, 0.8) for seed in range(3)])
    old = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**old, **summary}))
    (run / ".hydra").mkdir()
    (run / ".hydra" / "config.yaml").write_text("name: mine\n")
    return run


def plot(*names: str, run: Path | None = None, outputs: Path = Path("nowhere")) -> int:
    try:
        plot_commands.plot(names, run, outputs)
    except (ValueError, RunFailed) as error:
        return complain(error)
    return 0


def test_a_run_without_a_configuration_is_drawn_elsewhere(tmp_path: Path, capsys: Capture) -> None:
    run = write_search(tmp_path / "run", [trial(0, seed, 0.8) for seed in range(3)])
    before = sorted(run.rglob("*"))
    plot_commands.plot([], run, tmp_path, tmp_path / "drawn")
    assert capsys.readouterr().out == f"fig5: {tmp_path}/drawn/fig5.png\n"
    assert sorted(run.rglob("*")) == before
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        *("fig5.csv", "fig5.pdf", "fig5.png")
    ]


def of_scale(scale: str, status: str = "finished") -> dict[str, object]:
    settings = {"data": "digits", "scale": scale, "search": "grid", "epochs": 2}
    return {"experiment": "mine", "figures": ["fig5"], "status": status, "settings": settings}


def test_the_newest_run_of_any_name_is_drawn(tmp_path: Path, capsys: Capture) -> None:
    for name in ("2025-01-01_000000_aaaaaa", "2025-01-02_000000_aaaaaa"):
        run = write(tmp_path / "mine" / name, experiment="mine", figures=["fig5"])
    assert plot(outputs=tmp_path) == 0
    assert capsys.readouterr().out == (
        f"fig5: {run}/figures/fig5.png ({run}, finished, scale paper; one of 2 runs)\n"
    )


@pytest.mark.parametrize(
    ("scales", "taken"),
    [
        (("full", "smoke"), 0),
        (("cpu", "smoke"), 0),
        (("smoke", "cpu", "smoke"), 1),
        (("paper", "full", "smoke"), 1),  # names of the whole scale, then and now
        (("smoke", "full running"), 0),
        (("full", "full interrupted", "cpu"), 0),
        (("cpu running", "full interrupted", "smoke failed"), 1),
    ],
)
def test_finished_runs_at_the_largest_scale_go_before_smoke_ones(
    tmp_path: Path, scales: tuple[str, ...], taken: int
) -> None:
    runs = {}
    for day, words in enumerate(scales):
        path = tmp_path / f"2025-01-0{day + 1}_000000_aaaaaa"
        runs[path] = of_scale(*words.split())
    source = plot_commands.best_run(runs, lambda path: True)
    assert source is not None
    assert source.path == list(runs)[taken]
    scale, *status = scales[taken].split()
    words = f"{source.path}, {''.join(status) or 'finished'}, scale {scale}"
    assert source.why == f"{words}; one of {len(scales)} runs"


def test_a_table_says_on_stderr_which_run_it_is_of(tmp_path: Path, capsys: Capture) -> None:
    for day, status in enumerate(("finished", "running")):
        run = write_table(tmp_path / "table1" / f"2025-01-0{day + 1}_000000_aaaaaa")
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps({**summary, "status": status}))
        (run / ".hydra").mkdir()
        (run / ".hydra" / "config.yaml").write_text("name: mine\n")
    plot_commands.table([], tmp_path, "csv")
    told = capsys.readouterr()
    first = tmp_path / "table1" / "2025-01-01_000000_aaaaaa"
    assert told.err == f"table1: {first}, finished, scale cpu; one of 2 runs\n"
    plot_commands.table([first], tmp_path, "csv")
    assert capsys.readouterr() == (told.out, "")


def test_formats_are_chosen(tmp_path: Path, capsys: Capture) -> None:
    run = write_search(tmp_path / "run", [trial(0, seed, 0.8) for seed in range(3)])
    plot_commands.plot([], run, tmp_path, tmp_path / "drawn", ["svg,png", "svg"])
    assert capsys.readouterr().out == f"fig5: {tmp_path}/drawn/fig5.svg\n"
    svg, png = (tmp_path / "drawn" / f"fig5.{suffix}" for suffix in ("svg", "png"))
    assert sorted((tmp_path / "drawn").iterdir()) == [png, svg]
    assert svg.read_text().startswith("<?xml")
    first = svg.read_bytes()
    plot_commands.plot([], run, tmp_path, tmp_path / "drawn", ["svg"])
    assert svg.read_bytes() == first
    with pytest.raises(ValueError, match="unknown format 'gif': choose from png, pdf, svg, csv"):
        plot_commands.plot([], run, tmp_path, tmp_path / "drawn", ["png,gif"])


def test_a_run_that_cannot_be_written_is_drawn_elsewhere(tmp_path: Path, capsys: Capture) -> None:
    run = write_search(tmp_path / "run", [trial(0, seed, 0.8) for seed in range(3)])
    (run / "figures").write_text("in the way, as a disk that is only read")
    assert plot(run=run) == 1
    error = capsys.readouterr().err
    assert error.endswith("run/figures': name a folder with --output\n")
    assert error.count("\n") == 1
    plot_commands.plot([], run, tmp_path, tmp_path / "drawn")
    assert (tmp_path / "drawn" / "fig5.png").is_file()


@pytest.mark.parametrize("names", [(), ("fig5",)])
def test_a_run_found_and_nothing_drawn_is_a_failure(
    tmp_path: Path, capsys: Capture, names: tuple[str, ...]
) -> None:
    run = write(tmp_path / "run")
    (run / "trials.csv").write_text((run / "trials.csv").read_text().splitlines()[0] + "\n")
    assert plot(*names, run=run) == 1
    error = capsys.readouterr().err
    assert error.startswith("hypergrad: fig5: not drawn: ")
    assert "no finished trial yet" in error
    assert error.count("\n") == 1


def test_a_run_that_has_no_figure_says_so(tmp_path: Path) -> None:
    run = write(tmp_path / "run", experiment="mine", figures=[])
    with pytest.raises(RunFailed, match="nothing drawn: .*run is drawn as none of fig1, fig2"):
        plot_commands.plot([], run, tmp_path)
    table = write(tmp_path / "table", figures=["table1"])
    with pytest.raises(RunFailed, match="nothing drawn: `hypergrad table .*table` prints"):
        plot_commands.plot([], table, tmp_path)
    with pytest.raises(RunFailed, match="fig1: not drawn: .*it is drawn as table1"):
        plot_commands.plot(["fig1"], table, tmp_path)


def test_runs_without_data_yet_are_a_failure(tmp_path: Path, capsys: Capture) -> None:
    run = write(tmp_path / "mine" / "run", figures=["fig5"])
    (run / "trials.csv").unlink()
    assert plot(outputs=tmp_path) == 1
    assert "no run under" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "run", "message"),
    [
        (["fig9"], None, "unknown figure fig9: use one of fig1"),
        (["fig1"], None, "to draw fig1 from: start one"),
        ([], None, "start one with `hypergrad run quickstart`"),
        (
            [],
            Path("nowhere"),
            "no run directory at nowhere: `hypergrad runs` lists the runs there are",
        ),
    ],
)
def test_what_there_is_not_is_bad_usage(
    tmp_path: Path, names: list[str], run: Path | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plot_commands.plot(names, run, tmp_path)
