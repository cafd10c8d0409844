"""The site: what is made of the code is up to date, numbers are those of records, links hold."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

import hypergrad
from docs._site import links, reference

DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["commands", "api"])
def test_a_page_that_is_made_of_the_code_is_up_to_date(name: str) -> None:
    again = "run python -m docs._site.reference"
    assert page(f"{name}.md") == getattr(reference, name)(), again


def test_every_public_name_is_in_one_group_of_the_api() -> None:
    grouped = [name for names in reference.GROUPS.values() for name in names.split()]
    assert sorted(grouped) == sorted(hypergrad.__all__)


def commands() -> dict[str, set[str]]:
    """The options of every command, by its page."""
    sections = re.split(r"^## hypergrad (.+)$", page("commands.md"), flags=re.M)[1:]
    return {
        name: set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text))
        for name, text in zip(sections[::2], sections[1::2], strict=True)
    }


def unknown_options(text: str) -> list[str]:
    """Options in commands of a text that the command does not have."""
    own, unknown = commands(), []
    for line in re.findall(r"\bhypergrad [a-z][^`\n]*", text):
        words = line.partition(" #")[0].split()[1:]
        name = next((each for each in own if words[: len(each.split())] == each.split()), None)
        for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(words)):
            if name is not None and option not in own[name] | {"-h", "--help"}:
                unknown.append(f"{name} {option}")
    return unknown


@pytest.mark.parametrize("name", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_option_of_a_command_is_there(name: str) -> None:
    assert unknown_options(page(name)) == []


def test_an_option_that_is_not_there_is_found() -> None:
    text = "`hypergrad run fig1 --resum X -m seed=1`, `hypergrad data list --root A --all`"
    assert unknown_options(text) == ["run --resum", "data list --all"]


NUMBER = re.compile(r"(?<![\w.√])[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w-])")
CLAIMS = "costs.md", "comparison.md"


def strange_numbers(origin: str, text: str) -> list[str]:
    """Numbers of a table's row, or a paragraph, that stand in no record that it links to."""
    pieces = [row for row in text.splitlines() if row.startswith("|")]
    pieces += [each for each in re.split(r"\n\s*\n", text) if not each.startswith("|")]
    strange = []
    for piece in pieces:
        pages = re.findall(r"\]\(([^)#]+\.md)[^)]*\)", piece)
        known = {
            number.lstrip("+")
            for name in pages
            if "experiments/" in name or "examples/" in name
            for number in NUMBER.findall((ROOT / origin).parent.joinpath(name).read_text("utf-8"))
        }
        if known:
            bare = re.sub(r"`[^`]*`|\]\([^)]*\)", "", piece)
            strange += [n for n in NUMBER.findall(bare) if n.lstrip("+") not in known]
    return strange


@pytest.mark.parametrize("name", CLAIMS)
def test_every_number_of_a_claim_is_in_its_record(name: str) -> None:
    assert strange_numbers(f"docs/{name}", page(name)) == []


@pytest.mark.parametrize("name", CLAIMS)
def test_a_number_with_decimals_stands_beside_a_link(name: str) -> None:
    pieces = re.split(r"\n\s*\n|\n(?=\|)", page(name))
    alone = [each for each in pieces if "experiments/" not in each and "examples/" not in each]
    assert [each for each in alone if re.search(r"\d\.\d", re.sub(r"`[^`]*`", "", each))] == []


def test_a_number_that_is_in_no_record_is_found() -> None:
    text = "| +1.48 ± 0.34 points | [a](../experiments/quickstart/README.md) |"
    assert strange_numbers("docs/costs.md", text) == ["+1.48"]


def test_a_link_out_of_docs_leads_to_its_place_in_the_site() -> None:
    text = "[a](../experiments/fig1/README.md#x) [b](../examples/own_cnn.py) [c](method.md#y)"
    text += " [d](../experiments/fig1/record/) [e](https://x.org) ![f](../README.md)"
    assert links.relinked("docs/library.md", text) == (
        "[a](experiments/fig1/README.md#x) [b](examples/own_cnn.py.md) [c](method.md#y)"
        " [d](experiments/fig1/record/index.md) [e](https://x.org) ![f](index.md)"
    )
    back = links.relinked("experiments/fig1/README.md", "[a](../../docs/method.md#z)")
    assert back == "[a](../../method.md#z)"
    assert links.relinked("README.md", "[a](docs/method.md)") == "[a](method.md)"


def test_everything_that_is_linked_to_is_in_the_site_once() -> None:
    reached = list(links.reached(["README.md"]))
    assert {"docs/method.md", "experiments/fig1/record/fig1.png", "examples/own_cnn.py"} < {
        *reached
    }
    assert len(reached) == len(set(reached))
    places = [links.in_site(path) for path in reached]
    assert len(places) == len(set(places))
    pages = [path for path in reached if path.endswith(".md")]
    assert [links.in_checkout(links.in_site(path)) for path in pages] == pages


def test_every_page_is_in_the_navigation_and_there() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r": ([\w/-]+\.md)$", text, re.M)
    assert {path.name for path in DOCS.glob("*.md")} <= {*named}
    assert [name for name in named if not (ROOT / links.in_checkout(name)).exists()] == []


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install -e '.[docs]'")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--site-dir",
        str(tmp_path / "s"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "learn_schedule" in (tmp_path / "s/api/index.html").read_text(encoding="utf-8")
