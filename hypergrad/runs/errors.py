"""That a run failed, after there was a directory for it."""

__all__ = ["RunFailed"]


class RunFailed(Exception):  # noqa: N818 (that it failed is what it says)
    """A run that broke off after its directory was made; the text is one line for people."""
