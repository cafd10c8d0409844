"""A user's own images, written by the test."""

import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hypergrad.data import DataError, check, load
from hypergrad.data.decode import decode
from hypergrad.data.folder_layout import find_layout
from hypergrad.data.image_folder import read_folder


def colour(label: int, i: int) -> tuple[int, int, int]:
    return 40 * label + i, 255 - 40 * label, 10 * i


def write(path: Path, counts: dict[str, tuple[int, int]], suffix: str = ".png") -> Path:
    """Write `counts[class] = (train, test)` images, 6 wide and 4 high, each of one colour."""
    for label, (name, (n_train, n_test)) in enumerate(sorted(counts.items())):
        for split, n in (("train", n_train), ("test", n_test)):
            folder = path / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(n):
                Image.new("RGB", (6, 4), colour(label, i)).save(folder / f"{i:03}{suffix}")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "set", {"cat": (5, 2), "ant": (4, 2), "bee": (6, 1)})


def test_pixels_labels_and_classes(folder: Path) -> None:
    train, test, classes, remarks = read_folder(folder)
    assert remarks == ""
    assert classes == ("ant", "bee", "cat")
    assert train.pixels.shape == (15, 3, 4, 6)
    assert train.labels.bincount().tolist() == [4, 6, 5]
    assert test.labels.bincount().tolist() == [2, 1, 2]
    seen = set()
    for image, label in zip(train.pixels, train.labels.tolist(), strict=True):
        i = int(image[2, 0, 0]) // 10
        assert image.equal(torch.tensor(colour(label, i)).byte().view(3, 1, 1).expand(3, 4, 6))
        seen.add((label, i))
    assert len(seen) == 15


def test_load_standardises_by_the_training_images(folder: Path) -> None:
    data = load("imagefolder", path=folder)
    flat = data.train.images.double().transpose(0, 1).flatten(1)
    assert data.shape == (3, 4, 6)
    assert data.n_classes == 3
    assert torch.allclose(flat.mean(1), torch.zeros(3).double(), atol=1e-6)
    assert torch.allclose(flat.std(1, correction=0), torch.ones(3).double(), atol=1e-6)


def test_a_constant_channel_becomes_zeros(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for i, name in enumerate("ab"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (2, 2), (90 * i, 7, 0)).save(tmp_path / split / name / "0.png")
    data = load("imagefolder", path=tmp_path)
    assert data.train.images[:, 1:].abs().max() == 0


def test_sizes(folder: Path) -> None:
    assert load("imagefolder", path=folder, image_size=9).shape == (3, 9, 9)
    Image.new("RGB", (7, 4)).save(folder / "test" / "bee" / "odd.png")
    assert load("imagefolder", path=folder).shape == (3, 32, 32)


def test_greyscale_palette_and_alpha_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    for mode in ("L", "P", "RGBA", "1"):
        Image.fromarray(grey).convert(mode).save(tmp_path / f"{mode}.png")
    files = [str(tmp_path / f"{mode}.png") for mode in ("L", "P", "RGBA", "1")]
    pixels, remarks = decode(files, None)
    assert not remarks
    assert pixels.shape == (4, 3, 4, 6)
    for channel in pixels[0]:
        assert channel.equal(torch.from_numpy(grey))
    assert pixels[2].equal(pixels[0])


def test_jpegs_decode_in_colour_and_grey(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    files = [str(tmp_path / f"{i}.jpg") for i in range(4)]
    for file, image in zip(files, noise, strict=False):
        Image.fromarray(image).save(file, quality=75)
    Image.fromarray(noise[0, ..., 0]).save(files[3])
    expected = np.stack([np.array(Image.open(file).convert("RGB")) for file in files])
    assert decode(files, None).pixels.permute(0, 2, 3, 1).equal(torch.from_numpy(expected))


def test_only_chosen_files_are_decoded(folder: Path) -> None:
    kept = read_folder(folder, train_size=6, test_size=3, seed=4)
    assert kept.train.labels.bincount().tolist() == [2, 2, 2]
    # The kept images are those whose (label, colour) came back; break all the others.
    names = ("ant", "bee", "cat")
    chosen = {
        (names[label], int(image[2, 0, 0]) // 10)
        for image, label in zip(kept.train.pixels, kept.train.labels.tolist(), strict=True)
    }
    for file in (folder / "train").rglob("*.png"):
        if (file.parent.name, int(file.stem)) not in chosen:
            file.write_bytes(b"not an image")
    again = read_folder(folder, train_size=6, test_size=3, seed=4)
    assert again.train.pixels.equal(kept.train.pixels)
    with pytest.raises(DataError, match="cannot read the image .*train"):
        read_folder(folder)


def test_a_run_of_consecutive_images_holds_several_classes(tmp_path: Path) -> None:
    labels = read_folder(write(tmp_path, {"a": (30, 1), "b": (30, 1)})).train.labels
    assert all(len(labels[i : i + 15].unique()) == 2 for i in range(0, 60, 15))


def test_broken_and_deep_images_are_named(folder: Path) -> None:
    deep = folder / "train" / "ant" / "deep.png"
    Image.fromarray(np.full((4, 6), 1000, dtype=np.uint16)).save(deep)
    with pytest.raises(DataError, match=r"deep.png has more than 8 bits"):
        read_folder(folder)
    whole = (folder / "train" / "ant" / "000.png").read_bytes()
    deep.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot read the image .*deep.png .*: replace or remove"):
        read_folder(folder)
    deep.unlink()
    cut = folder / "train" / "ant" / "cut.jpg"
    Image.new("RGB", (6, 4)).save(cut)
    cut.write_bytes(cut.read_bytes()[:400])
    with pytest.raises(DataError, match=r"cut.jpg"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("train", "has no folder train/"),
        ("train/bee", "test/bee has no counterpart in train"),
        ("train/bee/*", "bee holds no images"),
        ("test/*/*", "test holds no images"),
        ("train/*", "holds no class folders"),
    ],
)
def test_a_wrong_layout_is_named(folder: Path, remove: str, message: str) -> None:
    for item in list(folder.glob(remove)):
        shutil.rmtree(item) if item.is_dir() else item.unlink()
    with pytest.raises(DataError, match=message) as caught:
        load("imagefolder", path=folder)
    assert "<class>/<image>" in str(caught.value)


def sets_of(path: Path) -> tuple[set[str], set[str], str]:
    """The files of both sets, from the folder on, and what is said."""
    found = find_layout(path)
    train, test = (
        {str(Path(file).relative_to(path)) for file in files.paths}
        for files in (found.train, found.test)
    )
    return train, test, "; ".join(found.said)


def test_without_a_test_set_a_fifth_of_each_class_is_held_out(tmp_path: Path) -> None:
    path = write(tmp_path / "set", {"ant": (10, 0), "bee": (5, 0), "cat": (2, 0), "dog": (1, 0)})
    shutil.rmtree(path / "test")
    train, test, said = sets_of(path)
    assert said == "no test/: a fifth of each class, 4 of 18 images, is held out as the test set"
    assert len(train) == 14
    assert not train & test
    assert sorted(Path(file).parent.name for file in test) == ["ant", "ant", "bee", "cat"]
    assert sets_of(path)[:2] == (train, test)  # always the same choice
    flat = path.rename(tmp_path / "moved") / "train"  # wherever it lies, and whatever is above it
    moved, held, said = sets_of(flat)
    assert said.startswith("no train/ and test/: a fifth of each class, 4 of 18 images")
    assert {f"train/{file}" for file in held} == test
    assert {f"train/{file}" for file in moved} == train
    with pytest.warns(UserWarning, match="4 of 18 images, is held out"):
        data = load("imagefolder", path=flat)
    assert (len(data.train), len(data.test), data.classes) == (14, 4, ("ant", "bee", "cat", "dog"))
    assert data.test.labels.bincount().tolist() == [2, 1, 1]


def test_a_third_set_is_trained_on_or_is_the_test_set(tmp_path: Path) -> None:
    path = write(tmp_path, {"ant": (3, 1), "bee": (2, 2)})
    shutil.copytree(path / "test", path / "Valid")
    for label, image in ((0, "ant/000"), (1, "bee/000"), (1, "bee/001")):
        Image.new("RGB", (6, 4), colour(label, 20)).save(path / "Valid" / f"{image}.png")
    train, test, said = sets_of(path)
    assert said == "Valid/ joined to train/, which is split anew"
    assert (len(train), len(test)) == (8, 3)
    assert {file for file in train if file.startswith("Valid")} == {
        "Valid/ant/000.png",
        "Valid/bee/000.png",
        "Valid/bee/001.png",
    }
    layout = find_layout(path)
    named = [layout.classes[label] for label in layout.train.labels.tolist()]
    assert named == [Path(file).parent.name for file in layout.train.paths]
    shutil.rmtree(path / "test")
    train, test, said = sets_of(path)
    assert said == "no test/: Valid/ is the test set"
    assert (len(train), {file.split("/")[0] for file in test}) == (5, {"Valid"})
    (path / "validation" / "ant").mkdir(parents=True)
    with pytest.raises(DataError, match="has Valid/ and validation/: keep one"):
        find_layout(path)


@pytest.mark.parametrize("litter", ["__MACOSX", "@eaDir", ".ipynb_checkpoints", "lost+found"])
def test_what_archives_and_servers_leave_is_no_class(folder: Path, litter: str) -> None:
    for place in (folder, folder / "train", folder / "test" / "ant"):
        (place / litter).mkdir()
        (place / litter / "x.png").write_bytes(b"x")
        (place / "Thumbs.db").write_bytes(b"x")
    assert read_folder(folder).remarks == ""
    assert read_folder(folder).classes == ("ant", "bee", "cat")
    assert find_layout(folder / "train").classes == ["ant", "bee", "cat"]  # of the flat kind


def test_what_cannot_be_told_apart_or_is_meant_otherwise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"typo: no such folder of images: it must hold"):
        find_layout(tmp_path / "typo")
    path = write(tmp_path / "outer" / "flowers", {"rose": (3, 2)})
    with pytest.raises(DataError, match="flowers has one class, rose: at least two"):
        find_layout(path)
    with pytest.raises(DataError, match=r"no class folders: .*; perhaps .*flowers is meant"):
        find_layout(tmp_path / "outer")
    write(tmp_path / "single", {"rose": (1, 0), "tulip": (1, 0)})
    with pytest.raises(DataError, match="one image a class: none can be held out"):
        find_layout(tmp_path / "single" / "train")


def test_sizes_and_paths_that_cannot_be_met(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"train_size=16: .* at most 15"):
        load("imagefolder", path=folder, train_size=16)
    with pytest.raises(ValueError, match=r"test_size=2: .* at least 3"):
        load("imagefolder", path=folder, test_size=2)
    with pytest.raises(DataError, match="path=FOLDER"):
        load("imagefolder")


def test_what_is_passed_over_is_said_by_kind_and_count(folder: Path) -> None:
    ant = folder / "train" / "ant"
    (ant / "._000.png").write_bytes(b"x")
    (folder / "train" / ".hidden").mkdir()
    assert read_folder(folder).remarks == ""  # what is hidden is nobody's picture
    for name in ("a.gif", "b.GIF", "c.jfif", "notes.txt", "README"):
        (ant / name).write_bytes(b"x")
    (ant / "nested").mkdir()
    (ant / "nested.png").mkdir()
    (folder / "notes").mkdir()  # beside the sets
    (folder / "val").mkdir()  # a set without anything in it
    (folder / "test" / "loose.png").write_bytes(b"x")  # in no class
    found = read_folder(folder)
    assert len(found.train.labels) == 15
    said = "passed over 2 .gif, 1 .jfif, 1 .png, 1 .txt, 4 folders, 1 without a suffix"
    assert found.remarks == said
    with pytest.warns(UserWarning, match=f"imagefolder .*: {said}"):
        load("imagefolder", path=folder)
    assert check("imagefolder", folder).endswith(f"every file decodes; {said}")


@pytest.mark.parametrize("suffix", ["tiff", "webp", "png"])
def test_further_pages_and_frames_are_said(tmp_path: Path, suffix: str) -> None:
    first, second = Image.new("RGB", (6, 4), (200, 0, 0)), Image.new("RGB", (6, 4), (0, 0, 200))
    files = [str(tmp_path / f"{i}.{suffix}") for i in range(2)]
    first.save(files[0], save_all=True, append_images=[second], lossless=True)
    second.save(files[1], lossless=True)
    pixels, remarks = decode(files, None)
    assert pixels[0, :, 0, 0].tolist() == [200, 0, 0]
    assert remarks == {"with further pages or frames, only the first read": 1}


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    grey = np.zeros((16, 8), dtype=np.uint8)
    grey[:8] = 250  # the upper half is light
    grey[:8, :4] = 125  # and its left less so
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a),  # shown, it is turned clockwise
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"x.{suffix}"
    Image.fromarray(np.ascontiguousarray(undo(grey))).save(file, exif=exif, quality=100)
    pixels, remarks = decode([str(file)], None)
    assert pixels.shape == (1, 3, 16, 8)
    # Eight by eight pixels are JPEG's own blocks, and 125 and 250 half of one: a few levels off.
    assert (pixels[0, 0].int() - torch.from_numpy(grey).int()).abs().max() < 8
    assert remarks == ({} if orientation == 1 else {"turned as EXIF says": 1})


def test_transparent_images_lie_on_white(tmp_path: Path) -> None:
    shape = np.zeros((4, 6, 4), dtype=np.uint8)  # black, and a bar in its transparency alone
    shape[:, 2:4, 3] = 255
    shape[0, 2, 3] = 51
    Image.fromarray(shape).save(tmp_path / "rgba.png")
    Image.fromarray(shape[..., 2:]).save(tmp_path / "la.png")  # grey and its transparency
    palette = Image.new("P", (6, 4))
    palette.putpalette([10, 20, 30, 0, 0, 0])
    palette.putpixel((0, 0), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    pixels, remarks = decode([str(tmp_path / f"{n}.png") for n in ("rgba", "la", "p")], None)
    expected = torch.full((4, 6), 255, dtype=torch.uint8)
    expected[:, 2:4] = 0
    expected[0, 2] = 204  # a fifth of black on white
    for channel in (*pixels[0], *pixels[1]):
        assert channel.equal(expected)
    assert pixels[2, 0].tolist() == [[0] + 5 * [255], *(3 * [6 * [255]])]
    assert remarks == {"with transparency, laid on white": 3}


def test_a_white_shape_on_nothing_is_refused(tmp_path: Path) -> None:
    shape = np.full((4, 6, 4), 255, dtype=np.uint8)
    shape[:2, ..., 3] = 0
    Image.fromarray(shape).save(tmp_path / "white.png")
    with pytest.raises(DataError, match=r"white.png is white where .* background of its own"):
        decode([str(tmp_path / "white.png")], None)


def test_files_replaced_with_size_and_time_kept_are_read_anew(folder: Path) -> None:
    file = folder / "train" / "ant" / "000.bmp"  # every file of a size is as long
    Image.new("RGB", (6, 4), (1, 2, 3)).save(file)
    before, first = file.stat(), load("imagefolder", path=folder)
    Image.new("RGB", (6, 4), (1, 2, 4)).save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    second = load("imagefolder", path=folder)
    assert not second.train.images.equal(first.train.images)
    assert second.fingerprint != first.fingerprint


def test_check_decodes_every_file(folder: Path) -> None:
    line = check("imagefolder", folder)
    assert "3 classes, 15 + 5 images read as 3x4x6" in line
    (folder / "test" / "ant" / "000.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"000.png"):
        check("imagefolder", folder)


def test_real_svhn_crops(shared_data: Path) -> None:
    path = shared_data / "svhn-images"
    if not path.exists():
        pytest.skip(f"no svhn-images in {shared_data}")
    data = load("imagefolder", path=path, train_size=20)
    assert data.shape == (3, 32, 32)
    assert data.classes == tuple("0123456789")
    assert data.train.labels.bincount().tolist() == [2] * 10


def sixteen_bits(path: Path) -> None:
    """Write a PNG with 16 bits a channel, which Pillow itself cannot."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = b"".join(b"\0" + struct.pack(">18H", *range(0, 18000, 1000)) for _ in range(4))
    header = struct.pack(">IIBBBBB", 6, 4, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("what", ["bomb", "link", "pipe", "deep"])
def test_an_image_that_is_none_or_too_much_is_named(folder: Path, what: str) -> None:
    path = folder / "train" / "cat" / "odd.png"
    if what == "bomb":
        Image.new("1", (13_000, 13_000)).save(path)
        said = "has 13,000x13,000 pixels, and 67,108,864 in all is the most"
    elif what == "link":
        path.symlink_to(folder / "nowhere")
        said = "is a link to nothing"
    elif what == "pipe":
        os.mkfifo(path)
        said = "is no file"
    else:
        sixteen_bits(path)
        said = "has more than 8 bits a channel"
    with pytest.raises(DataError) as caught:
        load("imagefolder", path=folder)
    assert str(caught.value).startswith(f"{path} {said}")


def test_a_test_class_without_images_is_said(folder: Path) -> None:
    for path in (folder / "test" / "bee").iterdir():
        path.unlink()
    assert "1 test/bee, which holds no images" in read_folder(folder).remarks
