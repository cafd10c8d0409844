"""Markup is made by `element` alone; whatever is a string ends as text."""

import pytest
from markup import HOSTILE, Reader

from hypergrad.reporting.html import LONGEST, element, joined


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_read_back_as_it_was(text: str) -> None:
    read = Reader(element("p", element("code", text), text, title=text).markup)
    assert read.tags == [("p", {"title": text}), ("code", {})]
    assert read.text == text + text


def test_joined_texts_are_escaped_and_elements_are_not() -> None:
    assert joined("<", element("br"), ">").markup == "&lt;<br>&gt;"


@pytest.mark.parametrize("character", "\x00\x08\x1b\x7f\x85\u202e\u2066\ud800\uffff")
def test_what_is_no_text_is_shown_as_that(character: str) -> None:
    markup = element("p", f"a{character}b", title=character).markup
    assert markup == '<p title="?">a?b</p>'
    assert markup.encode("utf-8")


def test_a_long_text_is_cut_and_says_so() -> None:
    text = element("p", "a" * (LONGEST + 1)).markup
    assert text == f"<p>{'a' * LONGEST} … ({LONGEST + 1:,} characters)</p>"
    picture = "data:image/png;base64," + "A" * 3 * LONGEST
    assert picture in element("img", src=picture).markup


@pytest.mark.parametrize("tag", ["script", "style", "iframe", "svg", "P", "p onclick=x"])
def test_other_elements_are_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="no element"):
        element(tag)


@pytest.mark.parametrize("name", ["onclick", "style", "a b", "a=b", "A", "a>"])
def test_other_attributes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no attribute"):
        element("p", **{name: "x"})
