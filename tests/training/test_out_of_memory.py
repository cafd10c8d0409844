"""What the library says where memory runs out: notes on the exception, with the numbers known."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hypergrad
from hypergrad.core.limits import is_out_of_memory
from hypergrad.core.rules.sgd_schedules import paper_optimizer
from hypergrad.training.out_of_memory import MemoryNeed, explain, memory_of

CPU = torch.device("cpu")
MEGABYTE = 10**6
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"


def digits() -> tuple[Tensor, Tensor]:
    """Real digits: 300 images of 8 by 8."""
    from hypergrad.data import load

    train = load("digits").train
    return train.images[:300], train.labels[:300]


def note(error: BaseException) -> str:
    (only,) = error.__notes__
    return only


def need(**changed: object) -> MemoryNeed:
    # SGD with momentum, weights of 1 MB, as many steps as in LeNet's Figure 1.
    given = MemoryNeed(CPU, 100, 1, MEGABYTE, 2 * MEGABYTE, 5000, False)
    return given._replace(**changed)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(CUDA),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 64 bytes."),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_want_of_memory_is_told_from_mistakes(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied (2x3 and 4x5)"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_forward_mode_is_told_its_tangents_and_what_would_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hypergrad.training.out_of_memory.memory_of", lambda device: 250 * MEGABYTE)
    error = torch.OutOfMemoryError(CUDA)
    explain(error, need)
    said = note(error)
    assert said.startswith("out of memory on cpu (250 MB in all, 2.15 GB more asked for): ")
    # Weights and momentum before and after a step, and a product: 5 MB a value.
    assert "forward mode keeps 500 MB of tangents for 100 values" in said
    assert "40 values would fit" in said  # 80 % of 250 MB
    # sqrt(2 * 5000) + 3 states of 2 MB.
    assert "use reverse mode, whose states fit 206 MB: memory_gb=0.21" in said
    explain(error, need)
    assert error.__notes__ == [said]  # once


def test_reverse_mode_is_told_its_states_and_forward_mode_if_that_is_smaller() -> None:
    error = MemoryError()
    explain(error, lambda: need(values=3, reverse=True))
    said = note(error)
    assert "206 MB for its states" in said
    assert "memory_gb=0.21 with keep_graphs=False" in said
    assert "forward mode keeps 15 MB for 3 values" in said
    assert "would fit" not in said


def test_any_other_error_stays_as_it_is() -> None:
    error = RuntimeError("shapes")
    explain(error, need)
    assert not hasattr(error, "__notes__")


def test_the_memory_of_a_cpu_is_at_most_the_machines() -> None:
    most = memory_of(CPU)
    assert most is None or 2**26 < most < 2**50
    assert memory_of(torch.device("mps")) is None


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError])
def test_the_library_adds_the_note_and_raises_what_was_raised(kind: type[Exception]) -> None:
    def cross_entropy(predictions: Tensor, labels: Tensor) -> Tensor:
        if len(labels) == 100:  # the validation images: after the training
            raise kind(CUDA)
        return F.cross_entropy(predictions, labels)

    images, labels = digits()
    with pytest.raises(kind) as caught:
        hypergrad.learn_schedule(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
            images,
            labels,
            epochs=4,
            batch_size=32,
            outer_steps=2,
            validation=1 / 3,
            optimizer=paper_optimizer((4, 1, 1)),
            criterion=cross_entropy,
            options=hypergrad.ForwardOptions(strategy="loop"),
        )
    # 650 weights in float32: 5 * 2600 bytes a value, 6 values.
    assert "forward mode keeps 0.078 MB of tangents for 6 values" in note(caught.value)
