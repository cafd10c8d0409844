"""What the pages print, and what their records say."""

from pathlib import Path

import pytest

from benchmarks import published


@pytest.mark.parametrize("page", published.PAGES)
def test_every_number_of_a_page_is_that_of_its_record(page: str) -> None:
    pieces = list(published.PAGES[page]())
    assert len(pieces) >= 3
    assert published.missing(page, pieces) == []


def test_a_number_that_is_not_there_is_missed() -> None:
    assert published.missing("experiments/fig1/README.md", ["98.49 ± 0.29 %"]) == ["98.49 ± 0.29 %"]


def test_every_record_with_a_page_of_its_own_is_held_to_it() -> None:
    pages = {str(Path(page).parent) for page in published.PAGES}
    records = {
        f"experiments/{folder.name}"
        for folder in published.EXPERIMENTS.iterdir()
        if (folder / "README.md").exists()
    }
    assert records <= pages
