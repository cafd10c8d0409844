"""HTML in which every text is escaped: a string is text, and only `element` makes markup."""

import html
import re
from dataclasses import dataclass

from hypergrad.runs.shown import in_a_figure

__all__ = ["Html", "element", "joined", "plain_text"]

LONGEST = 2000  # characters of a text; what is longer is cut, and says so
_VOID = {"br", "img", "link", "meta"}
_TAGS = _VOID | {
    *("a", "button", "caption", "code", "dd", "details", "div", "dl", "dt", "em", "figcaption"),
    *("figure", "footer", "h1", "h2", "h3", "head", "header", "li", "main", "nav", "p", "pre"),
    *("section", "span", "strong", "summary", "table", "tbody", "td", "th", "thead", "title"),
    *("tr", "ul", "body", "html"),
}
_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Html:
    """Markup that is safe to write as it stands. Made by `element` and `joined` alone."""

    markup: str


def element(tag: str, *children: Html | str, **attributes: str) -> Html:
    """An element; strings among its children, and its attributes, are escaped.

    Args:
        tag: Its name; `script` and `style`, whose content cannot be escaped, are not made here.
        children: Other elements, and texts.
        attributes: `class_` stands for `class`, and other underscores for hyphens.

    Raises:
        ValueError: For a tag or an attribute that this project does not write.

    >>> element("p", "a < b", class_='"x"').markup
    '<p class="&quot;x&quot;">a &lt; b</p>'
    """
    if tag not in _TAGS:
        raise ValueError(f"no element {tag!r} is written here")
    names = {name.rstrip("_").replace("_", "-"): text for name, text in attributes.items()}
    if wrong := [n for n in names if not _NAME.fullmatch(n) or n.startswith("on") or n == "style"]:
        raise ValueError(f"no attribute {wrong[0]!r} is written here")
    own = "".join(f' {name}="{_attribute(text)}"' for name, text in names.items())
    if tag in _VOID:
        return Html(f"<{tag}{own}>")
    return Html(f"<{tag}{own}>{joined(*children).markup}</{tag}>")


def joined(*children: Html | str) -> Html:
    """Elements and texts one after another."""
    return Html(
        "".join(
            child.markup if isinstance(child, Html) else html.escape(plain_text(child))
            for child in children
        )
    )


def plain_text(text: str) -> str:
    r"""A text without controls, and not too long.

    >>> plain_text("a\x00b")
    'a?b'
    """
    shown = in_a_figure(text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown} … ({len(text):,} characters)"


def _attribute(text: str) -> str:
    # A picture is long, and nothing but what base64 makes.
    long = text.startswith("data:image/png;base64,") and text.isascii()
    return html.escape(text if long else plain_text(text))
