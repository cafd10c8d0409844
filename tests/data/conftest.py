"""A data root of no user's choice."""

import pytest


@pytest.fixture(autouse=True)
def _default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYPERGRAD_DATA", raising=False)
