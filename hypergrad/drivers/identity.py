"""What a run computes on, by content: pixels and labels, and the source of a user's network."""

import ast
import hashlib
import inspect
import sys
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.data import Dataset
from hypergrad.drivers.own_network import imported_names, network_of
from hypergrad.models import Network
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.provenance import first_recorded

__all__ = ["Identity", "check_unchanged", "identity_of", "source_digest"]


_INSTALLED = {"site-packages", "dist-packages"}


class Identity(NamedTuple):
    """What the settings of a run name, and do not say.

    Attributes:
        data_fingerprint: Of pixels and labels, training and test set.
        model_source: Of the source of a network of the user's own; None for the library's, which
            the commit stands for, and where there is no source.
    """

    data_fingerprint: str
    model_source: str | None


def identity_of(config: RunConfig, data: Dataset) -> Identity:
    """Return what a run computes on.

    Args:
        config: The run's configuration.
        data: Its data, loaded.
    """
    network = network_of(config) if ":" in config.model.name else None
    return Identity(data.fingerprint, None if network is None else source_digest(network))


def check_unchanged(run: RunDirectory, now: Identity) -> None:
    """Refuse to go on with a run on other data, or with another network, than it began with.

    Args:
        run: The run; one that has not begun yet, or began before this was recorded, passes.
        now: What it would go on with.

    Raises:
        ConfigError: One line that says what has changed.
    """
    for name, what, remedy in (
        ("data_fingerprint", "its data holds other pixels or labels", "bring back those"),
        ("model_source", "the source of its network is another", "bring back the one"),
    ):
        then, found = first_recorded(run, name), getattr(now, name)
        if then is not None and then != found:
            raise ConfigError(
                f"{run.path}: {what} ({str(found)[:12]}) than when it began ({str(then)[:12]}): "
                f"{remedy} that it began with, or start a new run"
            )


@lru_cache(maxsize=100)  # a file that changes later is not what was imported
def source_digest(network: Network) -> str | None:
    """Hash the source that a user's own network is made of.

    That is the file of the class or function, and what its import statements reach of the same
    package, or of the folder that it is imported from. What is installed, what is imported by other
    means and what is only read as data is not in it.

    Args:
        network: What makes the network.

    Returns:
        64 hexadecimal digits (SHA-256); None if the network has no source file.
    """
    first = sys.modules.get(inspect.unwrap(network).__module__)
    if first is None or _file_of(first) is None:
        return None
    # Named relative to where they are imported from, so that the folder can move.
    own = {first.__name__: first}
    waiting = [first]
    while waiting:
        for other in _imported_by(waiting.pop()):
            if other.__name__ not in own and _belongs(other, first):
                own[other.__name__] = other
                waiting.append(other)
    state = hashlib.sha256()
    for name in sorted(own):
        file = _file_of(own[name])
        assert file is not None  # else it would not belong
        content = file.read_bytes()
        state.update(f"{name} {len(content)}\n".encode() + content)
    return state.hexdigest()


def _imported_by(module: ModuleType) -> list[ModuleType]:
    """Return the modules that a module's import statements name, as far as they were imported."""
    file = _file_of(module)
    assert file is not None
    names = imported_names(ast.parse(file.read_bytes()), module.__package__)
    # The packages that they are in run as well.
    names.add(module.__name__)
    whole = {above for name in names for above in accumulate(name.split("."), "{}.{}".format)}
    return [sys.modules[name] for name in whole if name in sys.modules]


def _belongs(other: ModuleType, first: ModuleType) -> bool:
    """Whether a module is the user's own, as `first` is."""
    file, start = _file_of(other), _file_of(first)
    if file is None or start is None:
        return False
    package, own = (module.__name__.partition(".")[0] for module in (other, first))
    if package == own:
        return True
    # The commit stands for hypergrad, in whose checkout they may lie; Python may lie below them.
    if package == "hypergrad" or package in sys.stdlib_module_names:
        return False
    levels = first.__name__.count(".") + (start.name == "__init__.py")
    root = start.parents[levels]  # where it is imported from
    return file.is_relative_to(root) and not _INSTALLED.intersection(file.parts)


def _file_of(module: ModuleType) -> Path | None:
    name = getattr(module, "__file__", None)
    if not isinstance(name, str) or not name.endswith(".py"):
        return None
    file = Path(name)
    return file if file.is_file() else None
