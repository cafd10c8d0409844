import json
import math
import os
import random
import re
import select
import signal
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hypergrad.runs.checkpoint import CheckpointStore


def tensors_for(number: int) -> dict[str, torch.Tensor]:
    values = torch.arange(200, dtype=torch.float64) / 7 + number
    return {"theta": values, "v": values.to(torch.float32), "Z": values.reshape(20, 10)[:, ::2]}


def save(store: CheckpointStore, number: int) -> Path:
    return store.save(tensors_for(number), {"number": number})


def number_in(store: CheckpointStore) -> int | None:
    """Load, check that tensors and state belong together bit for bit, and return which it is."""
    checkpoint = store.load()
    if checkpoint is None:
        return None
    number = checkpoint.state["number"]
    for name, tensor in tensors_for(number).items():
        assert torch.equal(checkpoint.tensors[name], tensor)
    return number


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def test_round_trip_is_bit_identical(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    integers = torch.randint(-(2**62), 2**62, (64,), generator=generator)
    tensors = {
        "z_float64": integers.view(torch.float64).clone(),  # any bit pattern, NaNs included
        "a_float32": integers.view(torch.float32).clone(),
        "int64": integers,
        "bool": integers > 0,
        "uint8": generator.get_state(),
        "bfloat16": torch.tensor([1.5, -0.0, math.inf], dtype=torch.bfloat16),
        "scalar": torch.tensor(math.pi, dtype=torch.float64),
        "empty": torch.empty(0, 3),
        "view": integers.reshape(8, 8)[:, 1:3],
        "same_memory": integers,
        "expanded": torch.ones(1).expand(5),
        "channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": torch.ones(2, requires_grad=True),
    }
    state = {
        "outer_step": 3,
        "floats": [0.1 + 0.2, 5e-324, -0.0, math.inf, -math.inf, 1e22],
        "nan": math.nan,
        "nested": {"text": "α, β, μ", "none": None, "flag": True, "big": 2**100},
    }
    path = CheckpointStore(tmp_path / "checkpoints").save(tensors, state)
    assert path == tmp_path / "checkpoints" / "00000001.json"
    store = CheckpointStore(tmp_path / "checkpoints")
    checkpoint = store.load()
    assert checkpoint is not None
    assert store.skipped == []
    assert list(checkpoint.tensors) == list(tensors)
    for name, tensor in tensors.items():
        loaded = checkpoint.tensors[name]
        assert (loaded.dtype, loaded.shape) == (tensor.dtype, tensor.shape)
        assert bits(loaded) == bits(tensor.detach())
        assert loaded.data_ptr() % 64 == 0
    floats = checkpoint.state.pop("floats")
    assert struct.pack("<6d", *floats) == struct.pack("<6d", *state["floats"])
    assert math.isnan(checkpoint.state.pop("nan"))
    assert checkpoint.state == {"outer_step": 3, "nested": state["nested"]}


def test_no_tensors_and_no_state(tmp_path: Path) -> None:
    CheckpointStore(tmp_path).save({}, {})
    assert CheckpointStore(tmp_path).load() == ({}, {})


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    assert store.load() is None
    (tmp_path / ".00000009.json.0a0b0c0d.tmp~").write_text("left by a kill")
    (tmp_path / "notes.txt").write_text("not ours")
    for number in range(1, 5):
        assert save(store, number).name == f"{number:08d}.json"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000003.json",
        "00000003.safetensors",
        "00000004.json",
        "00000004.safetensors",
        "notes.txt",
    ]
    assert number_in(store) == 4
    with pytest.raises(ValueError, match="keep=0"):
        CheckpointStore(tmp_path, keep=0)


def test_state_that_json_cannot_write_leaves_everything_as_it_was(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    save(store, 1)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(TypeError):
        store.save({}, {"tensor": torch.ones(1)})
    assert sorted(tmp_path.iterdir()) == before


def flip_a_tensor_byte(document: Path, tensors: Path) -> None:
    data = bytearray(tensors.read_bytes())
    data[-100] ^= 1
    tensors.write_bytes(data)


def truncate_tensors(document: Path, tensors: Path) -> None:
    tensors.write_bytes(tensors.read_bytes()[:-1])


def empty_tensors(document: Path, tensors: Path) -> None:
    tensors.write_bytes(b"")


def remove_tensors(document: Path, tensors: Path) -> None:
    tensors.unlink()


def truncate_document(document: Path, tensors: Path) -> None:
    document.write_bytes(document.read_bytes()[:-10])


def empty_document(document: Path, tensors: Path) -> None:
    document.write_bytes(b"")


def binary_document(document: Path, tensors: Path) -> None:
    document.write_bytes(b"\xff\x00\xfe")


def list_document(document: Path, tensors: Path) -> None:
    document.write_text("[]")


def change_state(document: Path, tensors: Path) -> None:
    content = json.loads(document.read_text())
    content["body"]["state"]["number"] = 7
    document.write_text(json.dumps(content))


def remove_document(document: Path, tensors: Path) -> None:
    document.unlink()


DAMAGES = [
    (flip_a_tensor_byte, "does not match its checksum"),
    (truncate_tensors, "does not match its checksum"),
    (empty_tensors, r"0 bytes, \d+ expected"),
    (remove_tensors, r"\.safetensors is missing"),
    (truncate_document, "not valid JSON"),
    (empty_document, "not valid JSON"),
    (binary_document, "not valid JSON"),
    (list_document, "checksum does not match"),
    (change_state, "checksum does not match"),
    (remove_document, "it is missing"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_damage_falls_back_to_the_one_before(
    tmp_path: Path, damage: Callable[[Path, Path], None], reason: str
) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)
    save(store, 2)
    damage(tmp_path / "00000002.json", tmp_path / "00000002.safetensors")
    assert number_in(store) == 1
    assert len(store.skipped) == 1
    assert re.search(rf"00000002\.json: .*{reason}", store.skipped[0])
    # The next save keeps the good one rather than the damaged one.
    save(store, 3)
    assert number_in(store) == 3
    assert store.skipped == []
    newest = max(tmp_path.glob("*.json"))
    damage(newest, newest.with_suffix(".safetensors"))
    assert number_in(store) == 1


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_only_damaged_checkpoints_are_an_error(
    tmp_path: Path, damage: Callable[[Path, Path], None], reason: str
) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for number in range(1, 4):
        save(store, number)
    for number in (2, 3):
        damage(tmp_path / f"{number:08d}.json", tmp_path / f"{number:08d}.safetensors")
    with pytest.raises(ValueError, match=rf"00000003\.json: .*{reason}.*00000002.*new run"):
        store.load()


def test_a_later_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypergrad.runs.checkpoint._FORMAT", 2)
    save(CheckpointStore(tmp_path), 1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 2 and this version reads 1"):
        CheckpointStore(tmp_path).load()


def test_kill_within_the_first_save_means_no_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    save(store, 1).unlink()
    assert number_in(store) is None
    assert len(store.skipped) == 1
    save(store, 1)
    assert number_in(store) == 1


def fork_a_saver(folder: Path) -> tuple[int, int]:
    """Start a child that loads and then saves for ever, reporting each finished save."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other libraries
        child = os.fork()
    if child == 0:
        try:
            store = CheckpointStore(folder)
            number = number_in(store) or 0
            os.write(writer, struct.pack("<q", number))
            while True:
                number += 1
                save(store, number)
                os.write(writer, struct.pack("<q", number))
        finally:
            os._exit(1)
    os.close(writer)
    return child, reader


def kill_savers(folder: Path, kills: int, seed: int) -> int:
    """Kill a saver `kills` times and check each time what can be loaded; return the last number."""
    draws = random.Random(seed)
    last = 0
    for _ in range(kills):
        child, reader = fork_a_saver(folder)
        try:
            assert select.select([reader], [], [], 30)[0], "the child never began"
            time.sleep(draws.uniform(0, 0.08))
        finally:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        with os.fdopen(reader, "rb") as pipe:
            reported = struct.unpack("<q", pipe.read()[-8:])[0]
        store = CheckpointStore(folder)
        # The last save that was reported, or one more that was finished and not yet reported.
        assert reported >= last
        last = number_in(store) or 0
        assert last in (reported, reported + 1)
        assert len(list(folder.glob(".*"))) <= 1
    save(CheckpointStore(folder), last + 1)
    assert len(list(folder.iterdir())) == 4
    return last


def test_kills_leave_the_newest_or_the_one_before(tmp_path: Path) -> None:
    assert kill_savers(tmp_path, kills=12, seed=0) > 0


@pytest.mark.fault
def test_many_kills_leave_the_newest_or_the_one_before(tmp_path: Path) -> None:
    assert kill_savers(tmp_path, kills=300, seed=1) > 50
