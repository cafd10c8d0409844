"""Every number that the records' pages print, computed again from the records beside them.

    python -m benchmarks.published          # what is printed, and whether it stands on its page

A function a page returns the pieces of text that must stand on it; a test holds the pages to them
(`tests/benchmarks/test_published.py`).
"""

import csv
import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev

from benchmarks import claims, improvement, longer_horizon, many_values, without_schedules
from benchmarks.paired import paired
from hypergrad.figures.fig2_data import ratios, read_hypergradients
from hypergrad.figures.fig2_errors import sharing_errors
from hypergrad.figures.run_data import floats, where

__all__ = ["PAGES", "missing"]

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
TABLE = EXPERIMENTS / "table1/record/table1.csv"


def fig1() -> Iterator[str]:
    """Figure 1: the table of methods, and the two short tables under it."""
    record = EXPERIMENTS / "fig1/record"
    scores = _scores(record / "summary.json")
    yield f"**{_spread(scores['ours_retrained'])}**"
    yield _spread(scores["ours"])
    yield f"{_spread(scores['hd'])} (3 of 3 diverged)"
    for rate in ("0.05", "0.1", "0.4", "0.6"):
        own = _scores(record / f"cosine/summary_{rate}.json")["sgd"]
        yield f"| cosine from {rate} | {_spread(own)}"
    yield f"| cosine from 0.2 | {_spread(scores['sgd'])}"
    for rate in ("0.02", "0.002"):
        own = _scores(record / f"hd/summary_{rate}.json")["hd"]
        yield f"| hypergradient descent, {rate}, online | {_spread(own)}"
    retrained = _scores(record / "paper_steps/summary.json")["ours_retrained"]
    yield f"| {retrained[0]:.2f} % |"


def fig2() -> Iterator[str]:
    """Figure 2: ratios, signal to noise, side claims, and the errors."""
    table = read_hypergradients(EXPERIMENTS / "fig2/record")
    found = ratios(table)
    errors = sharing_errors(table)
    for name in dict.fromkeys(found["perturbation"]):
        rows = where(found, perturbation=name)
        own = {method: where(rows, method=method) for method in ("greedy", "unshared", "shared")}
        ratio, low, high = (
            float(floats(own["shared"], each)[0]) for each in ("ratio", "low", "high")
        )
        noise = [float(floats(own[each], "signal_to_noise")[0]) for each in own]
        yield f"**{_short(ratio)}** ({_short(low)} to {_short(high)})"
        yield f"{noise[0]:.2f} | {noise[1]:.2f} | {noise[2]:.2f} |"
        at_40 = where(errors, perturbation=name, width=40)
        error, low, high, variance, bias = (
            float(floats(at_40, each)[0]) for each in ("error", "low", "high", "variance", "bias")
        )
        yield f"({_short(low)} to {_short(high)}) | {_short(variance)} | {_short(bias)} |"
        yield f"{_short(error)}"
    for name, keys in {
        "float32": "`precision=float32`",
        "batch128": "`method.batch_size=128`",
        "noclip": "`method.clip_gradient=null`",
        "momentum": "`hypervariance.momentum=0.9`",
    }.items():
        side = ratios(read_hypergradients(EXPERIMENTS / f"fig2/record/side/{name}"))
        shared = where(side, method="shared")
        ratio, low, high = (float(floats(shared, each)[0]) for each in ("ratio", "low", "high"))
        yield keys
        yield f"| {_short(ratio)} ({_short(low)} to {_short(high)}) |"


def fig3() -> Iterator[str]:
    """Figure 3: its table."""
    record = EXPERIMENTS / "fig3/record"
    for name in ("shared", "unshared"):
        summary = json.loads((record / f"mnist_{name}/summary.json").read_text())
        results = {each["method"]: each for each in summary["results"]}
        own, again = results["ours"], results["ours_retrained"]
        yield (
            f"| {own['outer_step']} | **{100 * own['validation_accuracy']:.2f} %** | "
            f"{100 * own['test_accuracy']:.2f} % | **{100 * again['test_accuracy']:.2f} %** |"
            if name == "shared"
            else f"| {own['outer_step']} | {100 * own['validation_accuracy']:.2f} % | "
            f"{100 * own['test_accuracy']:.2f} % | {100 * again['test_accuracy']:.2f} % |"
        )
    scores = _scores(record / "mnist_hd/summary.json")
    yield f"{scores['hd'][0]:.2f} % | {scores['hd_retrained'][0]:.2f} %"


def fig5() -> Iterator[str]:
    """Figure 5: what the grid on digits comes to."""
    yield f"**{_spread(_scores(EXPERIMENTS / 'fig5/digits/summary.json')['grid'])}**"
    rows = _rows(EXPERIMENTS / "fig5/digits/trials.csv")
    dead = [row for row in rows if row["diverged"] == "1"]
    yield f"{len(dead)} of the {len(rows)} trainings end at chance"
    settings = {row["setting"] for row in dead}
    yield f"In {len(settings)} of the {len({row['setting'] for row in rows})}"
    of_rate = Counter(row["learning_rate"] for row in dead)
    *first, last = (of_rate[rate] for rate in ("0.05", "0.1", "0.2", "0.4", "0.6"))
    yield f"{', '.join(map(str, first))} and {last} of 81"


def table1() -> Iterator[str]:
    """Table 1: its cells."""
    for row in _rows(TABLE):
        yield f"{100 * float(row['mean']):.2f} ± {100 * float(row['std']):.2f} (n={row['n']})"


def from_zero() -> Iterator[str]:
    """The paper's loop on digits."""
    for own in _scores(EXPERIMENTS / "from_zero/record/summary.json").values():
        yield _spread(own)


def quickstart() -> Iterator[str]:
    """The quickstart: its record, and ten further seeds."""
    gains = []
    for name in ("record", "ten_seeds"):
        seeds = json.loads((EXPERIMENTS / "quickstart" / name / "improve.json").read_text())
        for each in seeds["seeds"]:
            base, chosen = ([100 * score for score in own] for own in each["judged"])
            difference = paired(chosen, base)
            if name == "record":
                yield f"| the base | {mean(base):.2f} %"
                yield f"| the improved schedule | {mean(chosen):.2f} %"
                yield f"**{difference} points**"
            else:
                gains.append(difference)
    yield "| gain, points | " + " | ".join(f"{each.mean:.2f}" for each in gains)
    yield "| ± | " + " | ".join(f"{each.half():.2f}" for each in gains)
    yield f"**{paired([each.mean for each in gains], [0.0] * len(gains))} points**"


def improved() -> Iterator[str]:
    """Improve beside its rivals."""
    for data in ("mnist", "digits"):
        for line in improvement.summarised(EXPERIMENTS / f"improve/record/{data}.csv"):
            _, _, seeds, average, worst, against, cost = _cells(line)
            yield f"| {seeds} | {average} | {worst} |"
            yield f"| {against} | {cost} |" if against else f"| {cost} |"
    for name in ("mnist", "digits"):
        record = EXPERIMENTS / f"improve/record/{name}.csv"
        for line in longer_horizon.summarised(record.with_stem(f"{name}_longer")):
            _, _, average, worst, dead, against = _cells(line)
            yield f"| {average} | {worst} | {dead} | {against}".rstrip()
        optimizers = record.with_stem(f"{name}_optimizers")
        for line in without_schedules.summarised(optimizers, record):
            _, _, average, worst, against = _cells(line)
            yield f"| {average} | {worst} | {against} |"


def optimizers() -> Iterator[str]:
    """Other optimisers and other hyperparameters."""
    for name in ("adamw", "adamw_groups", "label_smoothing"):
        scores = _scores(EXPERIMENTS / f"optimizers/{name}/record/summary.json")
        learned, start = scores["ours_retrained"], scores["start"]
        yield f"| {_spread(learned)} | {_spread(start)} | {str(paired(learned, start))[1:]} |"


def claimed() -> Iterator[str]:
    """Claims 3, 4 and 5."""
    for line in claims.table(EXPERIMENTS / "claims/record/results.csv"):
        _, spread, worst, against, _ = _cells(line)
        yield f"| {spread} | {worst} | {against}".rstrip()


def values() -> Iterator[str]:
    """Searches over many values: means, differences and corrected p of both studies."""
    for name, ours in (("averaged", "averaged"), ("signs", "hypergradients")):
        for line in many_values.summarised(EXPERIMENTS / f"many_values/record/{name}.csv", ours):
            *_, search, seeds, average, against, p = _cells(line.replace(" | |", " | - |"))
            assert seeds == "8"
            yield f"| {average} |"
            if search not in (ours, "oracle"):
                yield f"{against} (p {p.replace('−', '-')})"


def speed() -> Iterator[str]:
    """A whole outer step beside its peers: medians of G, and memory."""
    names = "forward reverse checkpointed torchopt higher".split()
    rows = _rows(EXPERIMENTS / "speed/record/outer/measured.csv")
    for model, horizon, columns in (
        *(("mlp", 400, columns) for columns in (1, 7, 64)),
        *(("lenet", 64, columns) for columns in (1, 7, 64)),
        ("lenet", 400, 10),
    ):
        setting = model, str(horizon), str(columns)
        own = [row for row in rows if (row["model"], row["horizon"], row["columns"]) == setting]
        for name in names:
            found = [float(row["gradients"]) for row in own if row["contender"] == name]
            if found:
                yield f"| {median(found):.2f} ("
    memory = _rows(EXPERIMENTS / "speed/record/outer_memory/measured.csv")
    for name in ("plain", *names):
        grown = []
        for horizon in ("50", "100", "200", "400"):
            own = [row for row in memory if (row["mode"], row["horizon"]) == (name, horizon)]
            grown.append(median(int(row["peak"]) - int(row["before"]) for row in own) / 2**20)
        yield " | ".join(f"{each:.0f}" for each in grown)


def front() -> Iterator[str]:
    """The project's own page."""
    record = EXPERIMENTS / "fig1/record"
    scores = _scores(record / "summary.json")
    yield _spread(scores["ours_retrained"])
    yield _spread(scores["sgd"])
    yield _spread(_scores(record / "hd/summary_0.02.json")["hd"])
    scores = _scores(EXPERIMENTS / "from_zero/record/summary.json")
    yield f"{_spread(scores['ours_retrained'])} against {_spread(scores['sgd'])}"
    rows = {
        cells[1]: cells
        for cells in map(_cells, improvement.summarised(EXPERIMENTS / "improve/record/mnist.csv"))
    }
    means = [float(rows[name][3]) for name in ("improved", "base")]
    yield f"{means[0]:.1f} % against {means[1]:.1f} %"
    for name in ("adamw", "label_smoothing"):
        scores = _scores(EXPERIMENTS / f"optimizers/{name}/record/summary.json")
        yield str(paired(scores["ours_retrained"], scores["start"]))[1:]
    cells = {(row["row"], row["column"]): row for row in _rows(TABLE)}
    for row, column in (("ours", "mnist"), ("hd", "mnist"), ("grid", "mnist")):
        yield f"{100 * float(cells[row, column]['mean']):.1f} %"


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "README.md": front,
    "experiments/fig1/README.md": fig1,
    "experiments/fig2/README.md": fig2,
    "experiments/fig3/README.md": fig3,
    "experiments/fig5/README.md": fig5,
    "experiments/table1/README.md": table1,
    "experiments/from_zero/README.md": from_zero,
    "experiments/quickstart/README.md": quickstart,
    "experiments/improve/README.md": improved,
    "experiments/optimizers/README.md": optimizers,
    "experiments/claims/README.md": claimed,
    "experiments/many_values/README.md": values,
    "experiments/speed/README.md": speed,
}


def missing(page: str, pieces: Iterable[str]) -> list[str]:
    """Return the pieces that do not stand on a page; spaces and line ends count alike."""
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    return [piece for piece in pieces if " ".join(piece.split()) not in text]


def _scores(path: Path) -> dict[str, list[float]]:
    """Test accuracies in % by method, in the order of the seeds."""
    found: dict[str, list[float]] = {}
    for each in json.loads(path.read_text(encoding="utf-8"))["results"]:
        found.setdefault(each["method"], []).append(100 * each["test_accuracy"])
    return found


def _spread(scores: Sequence[float]) -> str:
    return f"{mean(scores):.2f} ± {stdev(scores):.2f} %"


def _rows(path: Path) -> list[dict[str, str]]:
    opened = partial(gzip.open, mode="rt") if path.suffix == ".gz" else open
    with opened(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("-", "−").strip("|").split("|")]


def _short(value: float) -> str:
    """Two digits, as the tables print them."""
    return f"{value:#.2g}".rstrip(".")


if __name__ == "__main__":
    lost = 0
    for page, pieces in PAGES.items():
        print(page)
        found = list(pieces())
        absent = missing(page, found)
        for piece in found:
            print(f"    {piece}{'    IS NOT ON THE PAGE' if piece in absent else ''}")
        lost += len(absent)
    sys.exit(bool(lost))
