"""The README and docs/: what they name exists, and the layers are those of the contract."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypergrad.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(ROOT / name for name in ("outputs/README.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def broken_links(page: Path, text: str) -> list[str]:
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in links if "://" not in link and not _resolves(page, link)]


def _resolves(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing_paths(text: str) -> list[str]:
    """Paths, and modules or what is in them, that a text names and the project has not."""
    paths = re.findall(r"\b(?:hypergrad|conf|tests|benchmarks|examples)/[\w/.]*\w/?", text)
    missing = [path for path in paths if not (ROOT / path).exists() and "NAME" not in path]
    modules = re.findall(r"(?<![\w./])(?:hypergrad|benchmarks)(?:\.\w+)+", text)
    return missing + [name for name in modules if not _is_module(name)]


def _is_module(name: str) -> bool:
    *parents, last = name.split(".")
    place = ROOT.joinpath(*parents)
    if (place / last).is_dir() or (place / f"{last}.py").is_file():
        return True
    source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return source.is_file() and re.search(rf"\b{last}\b", source.read_text()) is not None


def unknown_experiments(text: str) -> list[str]:
    return [name for name in experiments(text) if not _is_experiment(name)]


def experiments(text: str) -> Iterator[str]:
    """Names of the experiments in a text's commands."""
    yield from re.findall(r"hypergrad (?:run|check) ([a-z]\w*)", text)
    yield from (f"baselines/{name}" for name in re.findall(r"hypergrad baselines ([a-z]\w*)", text))


def _is_experiment(name: str) -> bool:
    return (ROOT / "conf/experiment" / f"{name}.yaml").is_file()


def unknown_groups(text: str) -> list[str]:
    """Choices such as `data=mnist`, of a config group, that it does not have."""
    # `optimizer` is a group, and an argument in Python.
    text = re.sub(r"^```python\n.*?^```", "", text, flags=re.M | re.S)
    groups = "|".join(path.name for path in (ROOT / "conf").iterdir() if path.is_dir())
    given = re.findall(rf"(?<![\w.])({groups})=([a-z]\w*)", text)
    return [f"{group}={name}" for group, name in given if not _is_choice(group, name)]


def _is_choice(group: str, name: str) -> bool:
    return (ROOT / "conf" / group / f"{name}.yaml").is_file()


@each_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


@each_page
def test_every_path_and_module_exists(page: Path) -> None:
    assert missing_paths(page.read_text(encoding="utf-8")) == []


@each_page
def test_every_command_names_an_experiment_that_there_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert unknown_experiments(text) == []
    assert unknown_groups(text) == []


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [page.name for page in (ROOT / "docs").glob("*.md")]
    assert [name for name in pages if f"(docs/{name})" not in text] == []


def test_every_install_line_is_of_the_checkout() -> None:
    """On PyPI the name of the package is another project's."""
    places = "hypergrad conf docs examples benchmarks experiments tests .github".split()
    files = [file for place in places for file in (ROOT / place).rglob("*") if file.is_file()]
    texts = [path for path in files if path.suffix in (".py", ".md", ".yaml", ".yml", ".sh")]
    texts += [*ROOT.glob("*.md"), ROOT / "Makefile"]
    extras = "ray|optuna|frameworks|peers|dev|docs"
    foreign = re.compile(rf"hypergrad\\?\[(?:{extras})|pip install {'hypergrad'}\b")
    assert [str(path) for path in texts if foreign.search(path.read_text(encoding="utf-8"))] == []
    assert foreign.search("pip install 'hypergrad" + "[ray]'")


def test_the_citation_has_the_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", text, re.M) == [__version__]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def layers() -> list[str]:
    """The layers of the contract, from the highest to the lowest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (found,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return found


def test_the_layers_are_those_of_the_contract() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```layers\n(.*?)^```", text, re.M | re.S)
    written = [re.split(r" {2,}", line)[0] for line in block.splitlines()]
    assert written == layers()


def test_every_layer_has_a_line_of_its_own() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `hypergrad/(\w+)(?:/|\.py)`", text, re.M)
    assert sorted(rows) == sorted(name for layer in layers() for name in layer.split(" | "))


def test_what_is_not_there_is_found() -> None:
    page = ROOT / "README.md"
    assert broken_links(page, "[a](docs/no.md) [b](README.md#no) [c](README.md#developing)") == [
        "docs/no.md",
        "README.md#no",
    ]
    text = "`hypergrad/no.py`, `hypergrad/core/`, hypergrad.core.no, hypergrad.best"
    assert missing_paths(text) == ["hypergrad/no.py", "hypergrad.core.no"]
    text = "`hypergrad run no`, `hypergrad run fig1 data=no model=mlp`, `hypergrad baselines on`"
    text += "\n```python\nlearn(optimizer=mine)\n```\n"
    assert unknown_experiments(text) == ["no", "baselines/on"]
    assert unknown_groups(text) == ["data=no"]
