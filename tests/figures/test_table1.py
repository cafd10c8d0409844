import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from table1_runs import SPENT, write_cell, write_column, write_table

from hypergrad.figures.table1 import FORMS, render, write
from hypergrad.figures.table1_data import read_cells
from hypergrad.figures.table1_notes import footnotes

FOUR = "mnist svhn cifar10 digits"


@pytest.fixture(autouse=True)
def _terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def mnist(tmp_path: Path) -> pd.DataFrame:
    return read_cells([write_column(write_table(tmp_path / "run"))])


def notes(*runs: Path) -> list[str]:
    return footnotes(read_cells(runs), "Bold")


def lines(table: pd.DataFrame, form: str, start: str) -> list[str]:
    found = (line.strip() for line in render(table, form).splitlines())
    return [line for line in found if line.startswith(start)]


def test_markdown(mnist: pd.DataFrame) -> None:
    assert lines(mnist, "markdown", "|") == [
        "| | MNIST |",
        "|---|---:|",
        "| Random search | 68.42 ± 50.59 (n=3)†‡ |",
        "| Hypergradient descent | 97.42 ± 0.41 (n=3) |",
        "| Ours (learned schedule) | **98.49 ± 0.28 (n=3)** |",
        "| Hand-tuned (best) | 98.01 ± 0.11 (n=3)† |",
    ]
    assert lines(mnist, "markdown", "- ") == [f"- {note}" for note in footnotes(mnist, "Bold")]


def test_latex(mnist: pd.DataFrame) -> None:
    text = render(mnist, "latex")
    body = text[text.index(r"\toprule") : text.index(r"\end{tabular}")]
    assert [line.strip() for line in body.splitlines()] == [
        r"\toprule",
        r"& MNIST \\",
        r"\midrule",
        r"Random search & 68.42 $\pm$ 50.59 (n=3)$^\dagger$$^\ddagger$ \\",
        r"Hypergradient descent & 97.42 $\pm$ 0.41 (n=3) \\",
        r"Ours (learned schedule) & \textbf{98.49 $\pm$ 0.28 (n=3)} \\",
        r"Hand-tuned (best) & 98.01 $\pm$ 0.11 (n=3)$^\dagger$ \\",
        r"\bottomrule",
        "",
    ]


def test_latex_is_balanced_and_escapes_everything(tmp_path: Path) -> None:
    why = r"50% of $x_1 & {y}^2 # ~/data\raw <a|b> 中 missing"
    run = write_table(tmp_path / "run", columns="mnist svhn", missing={"svhn": why})
    text = render(read_cells([write_column(run)]), "latex")
    assert text.isascii()
    assert (
        r"50\% of \$x\_1 \& \{y\}\textasciicircum{}2 \# \textasciitilde{}/data"
        r"\textbackslash{}raw \textless{}a\textbar{}b\textgreater{} U+4E2D missing"
    ) in text
    source = "\n".join(re.sub(r"(?<!\\)%.*", "", line) for line in text.splitlines())
    bare = re.sub(r"\\[{}$&#%_]", "", source)  # what is left of these characters has a meaning
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert "#" not in bare
    assert "_" not in bare
    assert not re.search(r"\^(?!\\d?dagger)", bare)
    opened = re.findall(r"\\begin\{(\w+)\}", source)
    assert opened == ["table", "tabular", "minipage"]
    assert re.findall(r"\\end\{(\w+)\}", source) == ["tabular", "minipage", "table"]
    rows = bare[bare.index(r"\toprule") : bare.index(r"\bottomrule")].split(r"\\")[:-1]
    assert len(rows) == 5
    assert {row.count("&") for row in rows} == {2}
    known = (
        r"begin end centering caption label par smallskip medskip footnotesize setlength tabcolsep "
        r"toprule midrule bottomrule textbf pm geq dagger ddagger linewidth textbackslash "
        r"textasciicircum textasciitilde textless textgreater textbar"
    ).split()
    assert set(re.findall(r"\\([A-Za-z]+)", bare)) <= set(known)


def test_csv_has_a_row_a_cell_and_plain_numbers(tmp_path: Path) -> None:
    run = write_column(write_table(tmp_path / "run", columns="mnist cifar10"))
    table = read_cells([run])
    text = render(table, "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["row"], row["column"]) for row in rows[:3]] == [
        ("random", "mnist"),
        ("random", "cifar10"),
        ("hd", "mnist"),
    ]
    assert float(rows[0]["mean"]) == table["mean"][0]
    assert (rows[0]["n"], rows[0]["seconds"], rows[0]["diverged"]) == ("3", "240.0", "1")
    assert (rows[1]["mean"], rows[1]["std"], rows[1]["seconds"]) == ("", "", "")
    assert rows[1]["reason"] == "not started"


def test_the_terminal_stars_the_best_and_bolds_nothing_in_a_pipe(mnist: pd.DataFrame) -> None:
    text = render(mnist, "terminal")
    assert "\x1b" not in text
    assert re.search(r"Ours \(learned schedule\) +98\.49 ± 0\.28 \(n=3\)\*\n", text)
    assert re.search(r"Random search +68\.42 ± 50\.59 \(n=3\)†‡\n", text)
    assert "Bold, *: the best mean of its column." in text


def test_the_terminal_has_bold_type(mnist: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert re.search(r"\x1b\[1m *98\.49 ± 0\.28 \(n=3\)\*\x1b\[0m", render(mnist, "terminal"))


def test_four_columns_fit_into_80_characters(tmp_path: Path) -> None:
    run = write_table(tmp_path / "run", columns=FOUR)
    for column in FOUR.split():
        write_column(run, column)
    text = render(read_cells([run]), "terminal")
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    values = re.search(r"Random search((?: +68\.42 ± 50\.59){4})", text)
    assert values is not None
    assert re.search(r"(?: +\(n=3\)†‡){4}", text)
    assert re.search("MNIST +SVHN +CIFAR-10 +Digits", text)


def test_one_seed_is_shown_without_a_deviation(tmp_path: Path) -> None:
    run = write_cell(tmp_path / "run", "hd", {0: 0.95})
    assert lines(read_cells([run]), "markdown", "| Hyper") == [
        "| Hypergradient descent | **95.00 (n=1)** |"
    ]


def test_missing_cells_are_dashes_with_their_reason(tmp_path: Path) -> None:
    run = write_table(tmp_path / "run", "hd ours", "mnist svhn", "0", {"svhn": "no SVHN here"})
    write_cell(run / "mnist_hd_seed0", "hd", {0: 0.9})
    table = read_cells([run])
    assert lines(table, "markdown", "| ")[1:] == [
        "| Random search | – | – |",
        "| Hypergradient descent | **90.00 (n=1)** | – |",
        "| Ours (learned schedule) | – | – |",
        "| Hand-tuned (best) | – | – |",
    ]
    assert [note for note in footnotes(table, "Bold") if note.startswith("Missing")] == [
        "Missing, not asked for – MNIST: Random search, Hand-tuned (best); "
        "SVHN: Random search, Hand-tuned (best).",
        "Missing, no SVHN here – SVHN: Hypergradient descent, Ours (learned schedule).",
        "Missing, not started – MNIST: Ours (learned schedule).",
    ]


def test_a_table_without_any_result_is_all_dashes(tmp_path: Path) -> None:
    table = read_cells([write_table(tmp_path / "run")])
    assert footnotes(table, "Bold") == [
        "Missing, not started – MNIST: Random search, Hypergradient descent, "
        "Ours (learned schedule), Hand-tuned (best)."
    ]
    for form in FORMS:
        assert "0.00" not in render(table, form)


def test_footnotes_of_a_whole_column(mnist: pd.DataFrame) -> None:
    counts = "80,000 gradients, 400,000 Hessian products, 10 trials"
    assert footnotes(mnist, "Bold") == [
        "Bold: the best mean of its column.",
        "p-values of Welch's t-test against the best (two-sided, not corrected for several rows): "
        "MNIST: Random search 0.41, Hypergradient descent 0.025, Hand-tuned (best) 0.081. "
        "†: p ≥ 0.05, the difference is not significant.",
        "‡: final trainings that diverged, counted as chance: MNIST: Random search 1 of 3.",
        "Spent by the search behind each cell, means over seeds, without the final training "
        "(a Hessian product counts as two gradient evaluations):",
        f"MNIST (model lenet, scale cpu, epochs 2, budget 4min): Random search 240 s, {counts}; "
        f"Hypergradient descent 250 s, {counts}; Ours (learned schedule) 245 s, {counts}; "
        "Hand-tuned (best) 2.0 h, 5 trials. Largest difference between those with a budget, in "
        "seconds: 4.0 % (Random search below Hypergradient descent).",
        "Hand-tuned (best) has had no budget: its whole grid was searched.",
    ]


def test_what_cannot_be_tested_is_named(tmp_path: Path) -> None:
    found = notes(
        write_cell(tmp_path / "a", "hd", {0: 0.9}),
        write_cell(tmp_path / "b", "ours", {0: 0.95, 1: 0.96}),
    )
    assert "Not tested, for want of a second seed or of any variance: MNIST: " in found[1]
    assert found[1].endswith("Hypergradient descent.")
    assert not any("†" in note for note in found)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ("4min", "in seconds: 20.0 % (Ours (learned schedule) below Hypergradient descent)."),
        ("100trials", "in trials: 90.0 % (Hypergradient descent below Ours (learned schedule))."),
        # 90 + 2 x 0 against 20 + 2 x 40 evaluations
        (
            "2e6gradients",
            "in gradient evaluations: 10.0 % (Hypergradient descent below Ours (learned "
            "schedule)).",
        ),
    ],
)
def test_budgets_are_compared_in_their_own_unit(tmp_path: Path, budget: str, expected: str) -> None:
    hd = {"seconds": 100.0, "gradients": 90, "products": 0, "trials": 1}
    ours = {"seconds": 80.0, "gradients": 20, "products": 40, "trials": 10}
    found = notes(
        write_cell(tmp_path / "a", "hd", {0: 0.9}, spent=hd, budget=budget),
        write_cell(tmp_path / "b", "ours", {0: 0.9}, spent=ours, budget=budget),
        write_cell(tmp_path / "c", "grid", {0: 0.8}, spent={"seconds": 9e5}, budget=budget),
    )
    text = f"Largest difference between those with a budget, {expected}"
    assert sum(note.endswith(text) for note in found) == 1


def test_equal_spending_is_said_and_different_budgets_are_not_compared(tmp_path: Path) -> None:
    hd, ours = (write_cell(tmp_path / row, row, {0: 0.9}, spent=SPENT) for row in ("hd", "ours"))
    longer = write_cell(tmp_path / "longer", "random", {0: 0.9}, spent=SPENT, budget="20h")
    assert notes(hd, ours)[-1].endswith("All with a budget spent the same number of seconds.")
    assert "budget 20h or 4min" in notes(hd, ours, longer)[-1]
    assert notes(hd, ours, longer)[-1].endswith("Budgets differ: what was spent is not compared.")


def test_what_is_not_known_to_be_spent_is_not_compared(tmp_path: Path) -> None:
    hd = write_cell(tmp_path / "hd", "hd", {0: 0.9}, spent={"seconds": None})
    ours = write_cell(tmp_path / "ours", "ours", {0: 0.9})
    last = notes(hd, ours)[-1]
    assert "Hypergradient descent unknown; Ours (learned schedule) 240 s" in last
    assert last.endswith("10 trials.")


def test_files_are_written_and_the_same_every_time(mnist: pd.DataFrame, tmp_path: Path) -> None:
    first, second = (write(mnist, tmp_path / name) for name in ("one", "two/deep"))
    assert [path.name for path in first] == ["table1.md", "table1.csv", "table1.tex"]
    for path, again, form in zip(first, second, ("markdown", "csv", "latex"), strict=True):
        assert path.read_bytes() == again.read_bytes() == render(mnist, form).encode()


def test_an_unknown_form_is_refused(mnist: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no form 'html' of Table 1: use one of terminal, "):
        render(mnist, "html")
