"""Where what a page links to stands in the site.

On a forge `../experiments/fig1/README.md` is a file of the checkout. In the site whatever the pages
link to, and what that links to in turn, has a place too: pages as pages, sources as pages of code,
pictures and tables as they are, folders as lists of their files. The README is the front page.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = [
    "CODE",
    "FRONT",
    "ROOT",
    "in_checkout",
    "in_site",
    "reached",
    "relinked",
    "with_docstrings",
]

ROOT = Path(__file__).resolve().parents[2]
FRONT = "README.md"
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
CODE = {".py": "python", ".sh": "bash", ".sbatch": "bash", ".yaml": "yaml", ".cff": "yaml"}
NAMED = re.compile(r"^\| `(\w+)` \|.*$", re.M)


def reached(pages: Iterable[str]) -> Iterator[str]:
    """Every path of the checkout that pages lead to, themselves among them, once."""
    waiting, seen = list(pages), set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        yield path
        if path.endswith(".md"):
            waiting += _targets(path, (ROOT / path).read_text(encoding="utf-8"))


def relinked(origin: str, text: str) -> str:
    """Return a page's text with the links that it has in the site.

    Args:
        origin: Its path in the checkout.
        text: As it stands there.
    """

    def link(match: re.Match[str]) -> str:
        for target in _targets(origin, match[0]):
            place = posixpath.relpath(in_site(target), posixpath.dirname(in_site(origin)) or ".")
            return f"]({place}{match[2] or ''})"
        return match[0]

    return LINK.sub(link, text)


def in_site(path: str) -> str:
    """Return the place in the site of a file or folder of the checkout."""
    if path == FRONT:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        page = "README.md" if (ROOT / path / "README.md").exists() else "index.md"
        return f"{path}/{page}"
    return f"{path}.md" if Path(path).suffix in CODE else path


def in_checkout(place: str) -> str:
    """Return the path in the checkout of a page of the site."""
    if place == "index.md":
        return FRONT
    return f"docs/{place}" if (ROOT / "docs" / place).exists() else place


def with_docstrings(text: str) -> str:
    """Return the API page with a line for mkdocstrings, for every name, below the name's table."""

    def block(match: re.Match[str]) -> str:
        names = NAMED.findall(match[0])
        return match[0] + "\n" + "\n".join(f"::: hypergrad.{name}\n" for name in names)

    return re.sub(r"(?:^\|.*\n)+", block, text, flags=re.M)


def _targets(origin: str, text: str) -> Iterator[str]:
    """The paths of the checkout that a text links to, which exist."""
    for name, _ in LINK.findall(text):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), name))
        if "://" not in name and not path.startswith("..") and (ROOT / path).exists():
            yield path
