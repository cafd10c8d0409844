"""What a command printed, and the run it left behind; the fixture `call` gives them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Answer]


def only_run(outputs: Path) -> Path:
    (run,) = outputs.glob("*/*")
    return run
