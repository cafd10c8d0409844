"""Where the images of a user's folder are: its sets, its classes, and a test set where it has none.

train/<class>/<image>, test/<class>/<image>     as they are
the same with val/                              joined to train/; without test/, the test set
train/<class>/<image>                           a fifth of each class is held out as the test set
<class>/<image>                                 the same
"""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.seeding import generator
from hypergrad.data.catalogue import DataError

__all__ = ["Files", "Layout", "find_layout"]

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
HELD_OUT = 5  # one image in so many, of each class
LAYOUT = "it must hold train/<class>/<image> and test/<class>/<image>, or <class>/<image>"

_SETS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# What archives, cameras and file servers leave behind; names that begin with a dot are hidden.
_LITTER = {"__macosx", "$recycle.bin", "@eadir", "lost+found", "system volume information"}
_LITTER |= {"thumbs.db", "desktop.ini"}


class Files(NamedTuple):
    """Image files, and their labels as `(n,)` int64."""

    paths: list[str]
    labels: Tensor


class Layout(NamedTuple):
    """What a folder holds.

    Attributes:
        train: Training images.
        test: Test images.
        classes: Names, in the order of the labels.
        passed: What was passed over, by kind.
        said: What was made of a set that lacks, or of a third one.
    """

    train: Files
    test: Files
    classes: list[str]
    passed: Counter[str]
    said: tuple[str, ...]


def find_layout(path: Path) -> Layout:
    """Find the sets and classes of a folder; nothing is decoded.

    Args:
        path: The folder.

    Returns:
        Its images; which are held out, where there is no test set, is always the same choice.

    Raises:
        DataError: If it is not laid out in one of the ways above, or has fewer than two classes.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder of images: {LAYOUT}")
    sets = _sets(path)
    passed: Counter[str] = Counter()
    if "train" not in sets:
        if sets:
            raise DataError(f"{path} has no folder train/: {LAYOUT}")
        classes = _filled(path)
        whole = _files(path, classes, passed)
        _count_besides(path, classes, passed)
        layout = Layout(*_held_out(whole, path), classes, passed, ())
        return _checked(_said(layout, "no train/ and test/: a fifth of each class"), path)
    classes = _classes(path / sets["train"])
    read = {role: _set(path, name, classes, passed) for role, name in sets.items()}
    _count_besides(path, sets.values(), passed)
    train, test, validation = read["train"], read.get("test"), read.get("validation")
    if test is not None:
        said = ()
        if validation is not None:
            train = _joined(train, validation)
            said = (f"{sets['validation']}/ joined to {sets['train']}/, which is split anew",)
        return _checked(Layout(train, test, classes, passed, said), path)
    if validation is not None:
        said = f"no test/: {sets['validation']}/ is the test set"
        return _checked(Layout(train, validation, classes, passed, (said,)), path)
    layout = Layout(*_held_out(train, path), classes, passed, ())
    return _checked(_said(layout, "no test/: a fifth of each class"), path)


def _said(layout: Layout, text: str) -> Layout:
    held, whole = len(layout.test.paths), len(layout.test.paths) + len(layout.train.paths)
    return layout._replace(said=(f"{text}, {held} of {whole} images, is held out as the test set",))


def _checked(layout: Layout, path: Path) -> Layout:
    if len(layout.classes) < 2:
        raise DataError(f"{path} has one class, {layout.classes[0]}: at least two are told apart")
    return layout


def _sets(path: Path) -> dict[str, str]:
    """The names of the folders that are sets, by what they are for."""
    names = {name.lower(): name for name in _folders(path)}
    found = {}
    for role, words in _SETS.items():
        own = [names[word] for word in words if word in names]
        own = [name for name in own if role == "train" or _visible(path / name)]
        if len(own) > 1:
            raise DataError(f"{path} has {own[0]}/ and {own[1]}/: keep one of them")
        if own:
            found[role] = own[0]
    return found


def _classes(folder: Path) -> list[str]:
    names = _folders(folder)
    if not names:
        raise DataError(f"{folder} holds no class folders: {LAYOUT}")
    return names


def _filled(path: Path) -> list[str]:
    """Folders with images in them: classes without a set."""
    names = _folders(path)
    filled = [name for name in names if any(_is_image(e) for e in _visible(path / name))]
    if not filled:
        inner = [name for name in names if _folders(path / name)]
        hint = f"; perhaps {path / inner[0]} is meant" if len(inner) == 1 else ""
        raise DataError(f"{path} has no folder train/ and no class folders: {LAYOUT}{hint}")
    return filled


def _set(path: Path, name: str, classes: list[str], passed: Counter[str]) -> Files:
    """The images of one set."""
    folder = path / name
    unknown = sorted(set(_classes(folder)) - set(classes))
    if unknown:
        raise DataError(f"{path}: {name}/{unknown[0]} has no counterpart in train/: {LAYOUT}")
    _count_besides(folder, classes, passed)
    return _files(folder, classes, passed, every=name.lower() in _SETS["train"])


def _files(folder: Path, classes: list[str], passed: Counter[str], *, every: bool = False) -> Files:
    """The images of classes, in order; with `every`, a class without one is refused."""
    paths: list[str] = []
    counts = []
    for name in classes:
        found = sorted(_images_in(folder / name, passed)) if (folder / name).is_dir() else []
        if not found and every:
            kinds = ", ".join(sorted(SUFFIXES))
            raise DataError(f"{folder / name} holds no images ({kinds}): {LAYOUT}")
        if not found:
            passed[f"{folder.name}/{name}, which holds no images"] += 1
        paths += found
        counts.append(len(found))
    if not paths:
        raise DataError(f"{folder} holds no images: {LAYOUT}")
    return Files(paths, torch.arange(len(classes)).repeat_interleave(torch.tensor(counts)))


def _joined(one: Files, other: Files) -> Files:
    order = torch.cat([one.labels, other.labels]).argsort(stable=True)
    paths = [*one.paths, *other.paths]
    labels = torch.cat([one.labels, other.labels])[order]
    return Files([paths[i] for i in order.tolist()], labels)


def _held_out(files: Files, path: Path) -> tuple[Files, Files]:
    """Divide images into training and test images, class by class."""
    test = torch.zeros(len(files.paths), dtype=torch.bool)
    for label in files.labels.unique().tolist():
        own = (files.labels == label).nonzero().squeeze(1)
        order = torch.randperm(len(own), generator=generator("folder", "held out", label))
        few = min(len(own) - 1, max(1, len(own) // HELD_OUT))
        test[own[order[:few]]] = True
    if not test.any():
        raise DataError(f"{path} has one image a class: none can be held out as the test set")
    return _those(files, ~test), _those(files, test)


def _those(files: Files, chosen: Tensor) -> Files:
    index = chosen.nonzero().squeeze(1)
    return Files([files.paths[i] for i in index.tolist()], files.labels[index])


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _visible(folder) if entry.is_dir())


def _visible(folder: Path) -> "list[os.DirEntry[str]]":
    with os.scandir(folder) as entries:
        return [e for e in entries if not (e.name.startswith(".") or e.name.lower() in _LITTER)]


def _is_image(entry: "os.DirEntry[str]") -> bool:
    return os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.is_dir()


def _count_besides(folder: Path, read: Iterable[str], passed: Counter[str]) -> None:
    """Count what lies beside the folders that are read, by kind."""
    names = set(read)
    passed.update(_kind(entry) for entry in _visible(folder) if entry.name not in names)


def _images_in(folder: Path, passed: Counter[str]) -> list[str]:
    """List the images of a class; what else is there is counted in `passed`."""
    found = []
    for entry in _visible(folder):
        if _is_image(entry):
            if not entry.is_file():  # to open a pipe would be to wait for its writer
                what = "is a link to nothing" if entry.is_symlink() else "is no file"
                raise DataError(f"{entry.path} {what}: replace or remove it")
            found.append(entry.path)  # strings, not paths: with 60,000 files it is seconds
        else:
            passed[_kind(entry)] += 1
    return found


def _kind(entry: "os.DirEntry[str]") -> str:
    if entry.is_dir():
        return "folder"
    return os.path.splitext(entry.name)[1].lower() or "without a suffix"
