"""Devices without float64: a CPU that is said to have none, watched for it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

import hypergrad
from hypergrad.config.checks import ConfigError
from hypergrad.core import double_precision
from hypergrad.core.double_precision import widened, widest
from hypergrad.core.rules.sgd_schedules import paper_optimizer
from hypergrad.data import load
from hypergrad.drivers import context

TO_CPU = (Tensor.cpu, Tensor.numpy, Tensor.tolist)


class OnHost(Tensor):
    """What has been brought to the CPU on purpose: float64 is allowed there."""


class NoFloat64(TorchFunctionMode):
    """Refuses to make float64 of float32, as a device without it does.

    Numbers of schedules, which never touch the device, are float64 from the start.
    """

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if func is Tensor.cpu:
            return result.clone().as_subclass(OnHost)
        if any(isinstance(x, OnHost) for x in tensors) or not isinstance(result, Tensor):
            return result
        if result.dtype == torch.float64 and any(x.dtype == torch.float32 for x in tensors):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return result


@pytest.fixture
def without_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(double_precision, "WITHOUT", {"cpu"})
    with NoFloat64():
        yield


def learn(options: object) -> list[hypergrad.OuterStep]:
    train = load("digits").train
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))
    return hypergrad.learn_schedule(
        module,
        train.images[:300],
        train.labels[:300],
        epochs=3,
        batch_size=32,
        outer_steps=3,
        optimizer=paper_optimizer((3, 1, 1)),
        options=options,
    )


OPTIONS = [
    hypergrad.ForwardOptions(clip_products=3.0, strategy="loop"),
    hypergrad.ReverseOptions(),
]


@pytest.mark.parametrize("options", OPTIONS, ids=["forward", "reverse"])
def test_a_schedule_is_learned_without_float64(
    options: object, request: pytest.FixtureRequest
) -> None:
    expected = learn(options)
    request.getfixturevalue("without_float64")
    found = learn(options)
    for ours, wanted in zip(found, expected, strict=True):
        # Sums in float32 over nine steps; hypergradients are those of a float32 run either way.
        assert ours.hypergradients == pytest.approx(wanted.hypergradients, rel=1e-5, abs=1e-9)
        assert ours.validation_loss == pytest.approx(wanted.validation_loss, rel=1e-5)
        assert ours.schedule == wanted.schedule


def test_the_guard_sees_float64(without_float64: None) -> None:
    with pytest.raises(TypeError, match="MPS"):
        torch.ones(2).double()
    with pytest.raises(TypeError, match="MPS"):
        torch.add(torch.ones(2), torch.ones(2, dtype=torch.float64))
    assert torch.ones(2).cpu().double().dtype == torch.float64
    double_precision.WITHOUT.clear()  # as it was before there was any thought of such devices
    with pytest.raises(TypeError, match="MPS"):
        learn(OPTIONS[0])
    double_precision.WITHOUT.add("cpu")
    assert widened(torch.ones(2)).dtype == torch.float32


def test_only_mps_has_none() -> None:
    assert widest(torch.device("cuda")) == torch.float64
    assert widest(torch.device("mps")) == torch.float32
    assert widened(torch.ones(2)).dtype == torch.float64


def test_a_run_in_float64_is_refused_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert context._device("mps", "float32").type == "mps"
    with pytest.raises(ConfigError, match=r"precision=float64: mps has no float64; use device=cpu"):
        context._device("mps", "float64")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device=mps"):
        context._device("mps", "float32")
