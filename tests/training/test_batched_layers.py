"""Convolutions and poolings of an ensemble, against those of each member alone."""

import pytest
import torch
import torch.nn.functional as F
from problems import digits_problem
from torch import Tensor, nn
from torch.func import vmap

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.schedule import Schedule
from hypergrad.data.sources import TensorBatches
from hypergrad.training import batched_layers as module
from hypergrad.training.batched_layers import BatchedLayers, batched_layers
from hypergrad.training.ensemble import EnsembleRun
from hypergrad.training.inner_problem import InnerProblem

K = 3
CPU = torch.device("cpu")

SETTINGS = {
    "plain": {},
    "stride": {"stride": (2, 1)},
    "padding": {"padding": (1, 2)},
    "dilation": {"dilation": 2},
    "groups": {"groups": 2},
    "all": {"stride": 2, "padding": 1, "dilation": (1, 2), "groups": 2},
}


def images(channels: int = 4) -> Tensor:
    """Handwritten digits, several beside each other as channels: `(6, channels, 28, 28)`."""
    digits = digits_problem("lenet").images[: 6 * channels, 0]
    return digits.unflatten(0, (6, channels))[..., 4:20, 6:21]  # not square


def own(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(K, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("shared", ["images", "weights", "nothing"])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_convolution_is_that_of_every_member(name: str, shared: str, bias: bool) -> None:
    settings = SETTINGS[name]
    x = images() if shared == "images" else images() * own(1, 1, 1, 1, seed=1)
    w = own(6, 4 // settings.get("groups", 1), 3, 2)
    w = w[0].clone() if shared == "weights" else w
    b = own(6, seed=2) if bias else None
    given = [t.requires_grad_() for t in (x, w, b) if t is not None]
    dims = (
        None if shared == "images" else 0,
        None if shared == "weights" else 0,
        0 if bias else None,
    )

    def convolve(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return F.conv2d(x, w, b, **settings)

    with BatchedLayers():
        together = vmap(convolve, in_dims=dims)(x, w, b)
    xs, ws, bs = (
        [t] * K if dim is None or t is None else list(t)
        for t, dim in zip((x, w, b), dims, strict=True)
    )
    each = [convolve(*own) for own in zip(xs, ws, bs, strict=True)]
    torch.testing.assert_close(together, torch.stack(each), rtol=0, atol=1e-13)
    direction = torch.randn_like(together)
    found = torch.autograd.grad(together, given, direction)
    expected = torch.autograd.grad(torch.stack(each), given, direction)
    for a, e in zip(found, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (2, 3), "ceil_mode": True, "dilation": (1, 2)},
    ],
)
def test_a_pooling_is_that_of_every_member(settings: dict) -> None:
    x = (images() * own(1, 1, 1, 1)).relu().requires_grad_()  # with ties: background is zero
    with BatchedLayers():
        together = vmap(lambda x: F.max_pool2d(x, **settings))(x)
    each = torch.stack([F.max_pool2d(own, **settings) for own in x])
    assert torch.equal(together, each)
    direction = torch.randn_like(each)
    found, expected = (torch.autograd.grad(y, x, direction)[0] for y in (together, each))
    assert torch.equal(found, expected)


def test_what_is_not_known_is_left_to_vmap(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("not left to vmap")

    monkeypatch.setattr(module._Conv2d, "vmap", fail)
    monkeypatch.setattr(module._MaxPool2d, "vmap", fail)
    x, w = images(), own(2, 4, 3, 3)

    def unknown(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = F.conv2d(x, w, padding="same")
        one = F.conv2d(x[0], w)  # a single image
        pooled, _ = F.max_pool2d(y, 2, return_indices=True)
        return y, one, pooled

    with BatchedLayers():
        together = vmap(unknown)(w)
    for found, *each in zip(together, *map(unknown, w), strict=True):
        torch.testing.assert_close(found, torch.stack(each), rtol=0, atol=1e-13)


def test_where_nothing_is_batched_it_is_the_layer_itself() -> None:
    x, w = images(), own(2, 4, 3, 3)[0]
    with BatchedLayers():
        found = vmap(lambda share: share * F.max_pool2d(F.conv2d(x, w), 2).sum())(torch.ones(K))
    assert torch.equal(found, F.max_pool2d(F.conv2d(x, w), 2).sum().expand(K))


def test_normalisation_and_gpus_keep_the_layers_of_pytorch() -> None:
    plain, normalised = (digits_problem(name).model for name in ("lenet", "wrn"))
    assert isinstance(batched_layers(plain, CPU), BatchedLayers)
    assert not isinstance(batched_layers(normalised, CPU), BatchedLayers)
    assert not isinstance(batched_layers(plain, torch.device("cuda")), BatchedLayers)


def test_an_ensemble_goes_through_these_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = digits_problem("lenet")
    seen, original = [], module._Conv2d.vmap

    def watched(info: object, in_dims: tuple, *args: Tensor) -> tuple[Tensor, int]:
        seen.append(in_dims[0])
        return original(info, in_dims, *args)

    monkeypatch.setattr(module._Conv2d, "vmap", watched)
    batches = TensorBatches((problem.images[:32], problem.labels[:32]), 16, (0, "layers"))
    schedules = [Schedule({"learning_rate": (0.1,)})] * K
    run = EnsembleRun(InnerProblem(problem.model, problem.theta, batches, 2), schedules)
    run.advance()
    assert seen == [None, 1]  # shared images, then members beside each other


def test_frozen_filters_are_those_of_all_members() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 3, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(10)
    )
    problem = digits_problem("lenet")
    net = net.double()
    net(problem.images[:2])
    net[0].requires_grad_(requires_grad=False)
    model = FlatModel(net)
    thetas = model.theta() * torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64)
    batch = problem.images[:8], problem.labels[:8]
    with BatchedLayers():
        together = vmap(lambda theta: model.loss(theta, batch))(thetas)
    each = torch.stack([model.loss(theta, batch) for theta in thetas])
    torch.testing.assert_close(together, each, rtol=1e-13, atol=0)
