"""What is shown of texts that came from a file, an argument or an error: the one place."""

import re
import unicodedata

__all__ = ["LONGEST", "in_a_cell", "in_a_figure", "in_markdown", "printable", "short"]

LONGEST = 300  # characters of a line
_MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`[]|"})
_TAG = re.compile("<(?=[A-Za-z/!?])")  # as of HTML; `p < 0.1` is none
_FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would compute


def printable(text: object) -> str:
    r"""Return a text in one line without what a terminal would obey: ESC, BEL, turned writing.

    >>> printable("a\x1b[31m\nb\u202e")
    'a?[31m b?'
    """
    return _without_controls(" ".join(str(text).split()))


def short(text: object, longest: int = LONGEST) -> str:
    """Return a printable text of at most so many characters; what is left out is in its middle.

    >>> short("a" * 10 + "b" * 10, 13)
    'aaaaaaa...bbb'
    """
    line = printable(text)
    if len(line) <= longest:
        return line
    end = (longest - 3) // 3
    return f"{line[: longest - 3 - end]}...{line[-end:]}"


def in_markdown(text: object) -> str:
    r"""Return a text that Markdown shows as it is, but for emphasis.

    >>> in_markdown("<script>|a")
    '&lt;script>\\|a'
    """
    return _TAG.sub("&lt;", printable(text).replace("&", "&amp;").translate(_MARKDOWN))


def in_a_cell(text: object) -> str:
    """Return a text that a spreadsheet takes for a text.

    >>> in_a_cell("=cmd|x"), in_a_cell("a-b"), in_a_cell("-0.5")
    ("'=cmd|x", 'a-b', '-0.5')
    """
    shown = _without_controls(str(text))
    if not shown.lstrip().startswith(_FORMULA):
        return shown
    try:
        float(shown)
    except ValueError:
        return f"'{shown}"
    return shown


def in_a_figure(text: str) -> str:
    r"""Return a text, which may have several lines, that a figure has the room and glyphs for.

    >>> in_a_figure("two\nlines\x1b")
    'two\nlines?'
    """
    lines = (_without_controls(line) for line in text[:2000].split("\n"))
    return "\n".join(lines)


def _without_controls(line: str) -> str:
    if line.isprintable():
        return line
    # Of category C are control, format (such as turning the direction) and lone surrogates.
    return "".join("?" if unicodedata.category(char)[0] == "C" else char for char in line)
