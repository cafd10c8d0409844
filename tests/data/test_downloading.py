"""Downloading from a local server that holds a tiny MNIST in the original's layout."""

import gc
import gzip
import hashlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision

from hypergrad.data import DataError, available, check, download, load

# torchvision leaves the sockets of failed requests to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def idx(values: torch.Tensor) -> bytes:
    """The file format of MNIST: a magic number, the sizes, the bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.numpy().tobytes()


class Mirror:
    """A server of four small archives that can be told to misbehave."""

    def __init__(self) -> None:
        stream = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (30, 28, 28), generator=stream).byte()
        labels = torch.arange(10).repeat(3).byte()
        contents = (self.images[:20], labels[:20], self.images[20:], labels[20:])
        self.files = {
            f"{name}-ubyte.gz": gzip.compress(idx(content), mtime=0)
            for name, content in zip(FILES, contents, strict=True)
        }
        self.resources = [
            (name, hashlib.md5(data).hexdigest()) for name, data in self.files.items()
        ]
        self.served: Counter[str] = Counter()
        self.failures = 0  # how many of the next requests are answered by 503
        self.damaged: set[str] = set()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(b"")

            def do_GET(self) -> None:
                name = self.path.rsplit("/", 1)[1]
                data = mirror.files[name]
                # torchvision looks for redirections by a GET with this header.
                mirror.served[name] += self.headers["Method"] != "HEAD"
                self._answer(data[:-9] + b"corrupted" if name in mirror.damaged else data)

            def _answer(self, data: bytes) -> None:
                if mirror.failures:
                    mirror.failures -= 1
                    data = b""
                    self.send_response(503)
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/mnist/"


@pytest.fixture(autouse=True, scope="module")
def _collect_sockets() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    mirror = Mirror()
    thread = threading.Thread(target=mirror.server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [mirror.url])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", mirror.resources)
    yield mirror
    mirror.server.shutdown()
    thread.join()
    mirror.server.server_close()


def test_download_then_load(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "new" / "root"
    data = load("mnist", root=root, download=True)
    assert (len(data.train), len(data.test)) == (20, 10)
    assert data.test.labels.tolist() == list(range(10))
    pixels = data.train.images[:, 0] * 0.30810780 * 255 + 0.13066048 * 255
    assert torch.allclose(pixels, mirror.images[:20].float(), atol=1e-3)
    assert capsys.readouterr().out == ""
    assert available(root)[1].state == "present"
    assert download("mnist", root) == root
    assert set(mirror.served.values()) == {1}


def test_the_environment_chooses_the_root(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERGRAD_DATA", str(tmp_path / "root"))
    assert download("mnist") == tmp_path / "root"
    assert len(load("mnist").train) == 20


def test_check_compares_archives_and_counts(mirror: Mirror, tmp_path: Path) -> None:
    download("mnist", tmp_path)
    with pytest.raises(DataError, match="has 20 training images"):
        check("mnist", tmp_path)  # the tiny set is not the real one
    archive = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(DataError, match="ubyte.gz does not have the checksum"):
        check("mnist", tmp_path)


def test_other_files_under_mnists_names_are_refused_and_kept(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = {
        hashlib.md5(data).hexdigest(): hashlib.md5(gzip.decompress(data)).hexdigest()
        for data in mirror.files.values()
    }
    monkeypatch.setattr("hypergrad.data.torchvision_files._UNPACKED", sums)
    download("mnist", tmp_path)
    assert len(load("mnist", root=tmp_path).train) == 20
    images = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    foreign = images.read_bytes()[:-1] + b"\x07"  # as long, and laid out the same
    images.write_bytes(foreign)
    for use in (
        lambda: load("mnist", root=tmp_path),
        lambda: load("mnist", root=tmp_path, download=True),  # as a run does
        lambda: download("mnist", tmp_path),
    ):
        with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte is not MNIST's .*: move it"):
            use()
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte does not have the checksum"):
        check("mnist", tmp_path)
    assert images.read_bytes() == foreign


def test_threads_download_once(mirror: Mirror, tmp_path: Path) -> None:
    threads = [threading.Thread(target=download, args=("mnist", tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mirror.served == Counter(mirror.files.keys())
    assert len(load("mnist", root=tmp_path).train) == 20


@pytest.mark.slow
def test_processes_download_once(mirror: Mirror, tmp_path: Path) -> None:
    code = (
        "import torchvision\n"
        "from pathlib import Path\n"
        "from hypergrad.data import download\n"
        f"torchvision.datasets.MNIST.mirrors = [{mirror.url!r}]\n"
        f"torchvision.datasets.MNIST.resources = {mirror.resources!r}\n"
        f"download('mnist', Path({str(tmp_path)!r}))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert mirror.served == Counter(mirror.files.keys())


def test_a_failed_download_leaves_what_was_whole(mirror: Mirror, tmp_path: Path) -> None:
    mirror.failures = 1
    with pytest.raises(DataError, match="could not download mnist"):
        download("mnist", tmp_path)
    download("mnist", tmp_path)
    assert set(mirror.served.values()) <= {1, 2}
    assert len(load("mnist", root=tmp_path).train) == 20


def test_a_dead_mirror_is_passed_over(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = ["http://127.0.0.1:9/", mirror.url]
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", urls)
    download("mnist", tmp_path)
    assert set(mirror.served.values()) == {1}


def test_a_corrupted_archive_is_rejected(mirror: Mirror, tmp_path: Path) -> None:
    mirror.damaged = {"t10k-labels-idx1-ubyte.gz"}
    with pytest.raises(DataError, match=r"could not download mnist .*corrupted"):
        download("mnist", tmp_path)
    assert mirror.served["t10k-labels-idx1-ubyte.gz"] == 1
    # Neither the archive nor anything unpacked from it is left.
    assert not list((tmp_path / "MNIST" / "raw").glob("t10k-labels*"))
    assert available(tmp_path)[1].state == "absent"
    mirror.damaged = set()
    download("mnist", tmp_path)
    assert len(load("mnist", root=tmp_path).test) == 10
    assert mirror.served["train-images-idx3-ubyte.gz"] == 1


def test_an_unpacking_that_was_cut_short_is_repaired(mirror: Mirror, tmp_path: Path) -> None:
    download("mnist", tmp_path)
    images = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:5000])
    with pytest.raises(DataError, match="train-images-idx3-ubyte is cut short"):
        load("mnist", root=tmp_path)
    assert len(load("mnist", root=tmp_path, download=True).train) == 20
    assert set(mirror.served.values()) == {1}  # the archive was still good


def test_a_file_that_was_cut_short_is_named_and_kept_where_nothing_better_comes(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download("mnist", tmp_path)
    folder = tmp_path / "MNIST" / "raw"
    images = folder / "train-images-idx3-ubyte"
    short = images.read_bytes()[:5000]
    images.write_bytes(short)
    for archive in folder.glob("*.gz"):
        archive.unlink()
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DataError, match="MNIST/raw/train-images-idx3-ubyte is cut short or alt"):
        download("mnist", tmp_path)
    assert images.read_bytes() == short
    assert sorted(path.name for path in folder.iterdir()) == before
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [mirror.url])
    download("mnist", tmp_path)
    assert len(load("mnist", root=tmp_path).train) == 20
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("name", ["mnist", "svhn", "cifar10"])
def test_offline_is_one_line_with_the_remedies(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision = torchvision.datasets
    dead = "http://127.0.0.1:9/"  # the discard port: nothing answers there
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(vision.MNIST, "mirrors", [dead, dead])
    monkeypatch.setattr(vision.CIFAR10, "url", dead + "cifar-10-python.tar.gz")
    lists = {s: [dead + p[1], *p[1:]] for s, p in vision.SVHN.split_list.items()}
    monkeypatch.setattr(vision.SVHN, "split_list", lists)
    with pytest.raises(DataError) as caught:
        download(name, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert f"could not download {name}" in message
    for words in (name, str(tmp_path), f"hypergrad data download {name}", "use digits"):
        assert words in message


def test_a_root_that_cannot_be_written_is_named(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write mnist to .*file.*root=FOLDER"):
        download("mnist", tmp_path / "file" / "below")


def test_only_named_sets_can_be_downloaded() -> None:
    with pytest.raises(ValueError, match="mnist, svhn, cifar10"):
        download("digits")


def test_a_download_is_announced_with_its_size_before_it_begins(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.failures = 100
    with pytest.raises(DataError, match="could not download mnist"):
        download("mnist", tmp_path)
    assert f"downloading mnist (12 MB) to {tmp_path}" in capsys.readouterr().err.splitlines()
    mirror.failures = 0
    download("mnist", tmp_path)
    assert f"downloading mnist (12 MB) to {tmp_path}" in capsys.readouterr().err.splitlines()
    download("mnist", tmp_path)  # nothing to fetch
    assert capsys.readouterr().err == ""


def test_a_download_that_fails_leaves_the_disk_as_it_was(mirror: Mirror, tmp_path: Path) -> None:
    mirror.failures = 100
    with pytest.raises(DataError, match="could not download mnist"):
        download("mnist", tmp_path / "new" / "root")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(DataError, match="could not download mnist"):
        download("mnist", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
