"""A user's own network: where its source lies, known without importing it, and when to trust it.

Importing a module runs it. A run directory names the module of its network, so going on with a
stranger's would run whatever the stranger says, if it were not looked at first.
"""

import ast
import hashlib
import pkgutil
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from hypergrad.config.checks import SHOWN, ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.models import Network, resolve
from hypergrad.runs.directory import RunDirectory, is_run
from hypergrad.runs.shown import short

__all__ = ["Origin", "check_trusted", "imported_names", "network_of", "origin_of"]

_INSTALLED = {"site-packages", "dist-packages"}


class Origin(NamedTuple):
    """Where a network's source was, and its content; None where it has no source file.

    Attributes:
        model_folder: What its module's dotted name starts from.
        model_code: SHA-256 of its module and of what that imports of the user's own, as found
            without importing anything.
    """

    model_folder: str | None
    model_code: str | None


def network_of(config: RunConfig) -> Network:
    """Return what makes the configured network; a user's own is imported.

    Raises:
        ConfigError: If its module lies in a run directory.
        ValueError: If there is no such network.
    """
    name = config.model.name
    if ":" not in name:
        return resolve(name)
    _check_not_in_a_run(name, _file_of(name.partition(":")[0], Path.cwd()))
    return resolve(name, beside=Path.cwd())


def origin_of(config: RunConfig) -> Origin:
    """Return where the source of a configured network is; nothing is imported."""
    module, own, _ = config.model.name.partition(":")
    if not own:
        return Origin(None, None)
    files = _own_files(module, Path.cwd())
    if not files:
        return Origin(None, None)
    state = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        state.update(f"{name} {len(content)}\n".encode() + content)
    return Origin(str(_root(module, files[module])), state.hexdigest())


def check_trusted(run: RunDirectory, config: RunConfig, begun: list[dict], *, trust: bool) -> None:
    """Refuse to import the network that a run names, unless it is the one that it began with here.

    Args:
        run: The run.
        config: Its configuration.
        begun: What its sessions recorded, or those of the members of the same multi-run.
        trust: The user has said that it may be imported.

    Raises:
        ConfigError: One line that names the file, and the option.
    """
    name = config.model.name
    if ":" not in name:
        return
    file = _file_of(name.partition(":")[0], Path.cwd())
    _check_not_in_a_run(name, file)
    if trust:
        return
    now = origin_of(config)
    if file is not None and _came_with(run.path, Path(now.model_folder or file.parent), file):
        why = "it came with the run"
    elif now.model_code is None:
        why = "its source is not known"
    else:
        known = [session for session in begun if session.get("model_code") is not None]
        if any(Origin(s.get("model_folder"), s["model_code"]) == now for s in known):
            return
        if known and all(session["model_code"] != now.model_code for session in known):
            raise ConfigError(
                f"{short(name, SHOWN)}: the source of its network is another ({short(file, 100)}) "
                "than when the run began: bring back the one that it began with, or start a new run"
            )
        why = "the run began in another folder" if known else "the run does not say where it began"
    raise ConfigError(
        f"{short(name, SHOWN)}: the run's own network is not imported, because {why} "
        f"({'it is not here' if file is None else short(file, 100)}): --trust-model if you know "
        "what its code does"
    )


def _check_not_in_a_run(name: str, file: Path | None) -> None:
    inside = [] if file is None else [folder for folder in file.parents if is_run(folder)]
    if inside:
        raise ConfigError(
            f"model.name={short(name, SHOWN)} lies in the run directory {inside[0]}: nothing there "
            "is imported; move it to where you keep your code"
        )


def _came_with(run: Path, root: Path, file: Path) -> bool:
    """Whether a module lies in a folder that was unpacked with the run: beside it, or above."""
    here = run.resolve()
    beside = [folder for folder in (here.parent, here.parent.parent) if folder != root]
    return any(file.is_relative_to(folder) and not root.is_relative_to(folder) for folder in beside)


def _own_files(module: str, beside: Path) -> dict[str, Path]:
    """The source files of a module and of the user's own that it imports, by dotted name."""
    first = _file_of(module, beside)
    if first is None or first.suffix != ".py":
        return {}
    root, found, waiting = _root(module, first), {module: first}, [module]
    while waiting:
        name = waiting.pop()
        for other in _imported_by(name, found[name]):
            file = None if other in found or _is_foreign(other, module) else _file_of(other, beside)
            if file is not None and file.suffix == ".py" and file.is_relative_to(root):
                if not _INSTALLED.intersection(file.relative_to(root).parts):
                    found[other] = file
                    waiting.append(other)
    return found


def _is_foreign(name: str, module: str) -> bool:
    package = name.partition(".")[0]
    if package == module.partition(".")[0]:
        return False
    return package == "hypergrad" or package in sys.stdlib_module_names


def _imported_by(name: str, file: Path) -> Iterator[str]:
    """Dotted names in a file's import statements, with the packages that they are in."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # importing it will say so
        return
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for each in {name, *imported_names(tree, package)}:
        yield from accumulate(each.split("."), "{}.{}".format)


def imported_names(tree: ast.AST, package: str | None) -> set[str]:
    """Return the dotted names in import statements, of modules or of what may be in them.

    Args:
        tree: Of the source.
        package: That relative imports begin from; None outside any.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                try:
                    base = resolve_name("." * node.level + base, package)
                except ImportError:  # it was tried, and something else was done
                    continue
            names.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
    return names


def _file_of(module: str, beside: Path) -> Path | None:
    """The file of a module as an import would find it, with `beside` searched first."""
    path, origin = [str(beside), *sys.path], None
    for name in accumulate(module.split("."), "{}.{}".format):
        spec = _on_path(name, path) or (_elsewhere(name) if "." not in name else None)
        if spec is None:
            return None
        path, origin = list(spec.submodule_search_locations or []), spec.origin
    return None if origin is None or not Path(origin).is_file() else Path(origin).resolve()


def _on_path(name: str, path: list[str]) -> ModuleSpec | None:
    """What Python's finder of files has of a name; folders without `__init__.py` add up."""
    folders = []
    for entry in path:
        finder = pkgutil.get_importer(entry or ".")
        spec = None if finder is None else finder.find_spec(name)
        if spec is not None and spec.loader is not None:
            return spec
        if spec is not None:
            folders += spec.submodule_search_locations or []
    if not folders:
        return None
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = folders
    return spec


def _elsewhere(name: str) -> ModuleSpec | None:
    """What other finders have of a top name: of packages that are installed to be edited."""
    for finder in sys.meta_path:
        spec = None if finder is PathFinder else finder.find_spec(name, None)
        if spec is not None:
            return spec
    return None


def _root(module: str, file: Path) -> Path:
    """The folder that the module's dotted name starts from."""
    levels = module.count(".") + (file.name == "__init__.py")
    return file.parents[levels]
