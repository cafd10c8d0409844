"""Where the checkout is, for tests that start processes of their own."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
