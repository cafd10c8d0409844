"""Operations in place through views, where a strategy lays tensors out otherwise."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.curvature import gradient_and_multiplier, gradient_and_products
from hypergrad.curvature.autotune import check_strategy
from hypergrad.curvature.fused import LayoutError


class Net(nn.Module):
    """A convolution, something, and a linear layer, in float32."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear, self.between = nn.Conv2d(3, 4, 3), nn.Linear(144, 3), between

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.between(self.conv(x)).flatten(1))


def through_a_view(h: Tensor) -> Tensor:
    h.view(len(h), -1).clamp_(min=0)
    return h


def through_flatten(h: Tensor) -> Tensor:
    h.flatten(1).clamp_(min=0)
    return h


def before_the_view_is_read(h: Tensor) -> Tensor:
    seen = h.reshape(len(h), -1)
    h.tanh_()
    return seen


def contiguous(h: Tensor) -> Tensor:
    h.contiguous().mul_(2.0)
    return h


def in_place(h: Tensor) -> Tensor:
    return F.relu_(h)


def views_that_nobody_changes(h: Tensor) -> Tensor:
    return h.view(len(h), 2, 2, 6, 6).transpose(1, 2).contiguous().view(len(h), -1).tanh()


LOST = [through_a_view, through_flatten, before_the_view_is_read, contiguous]
KEPT = [in_place, views_that_nobody_changes]


def problem(between: Callable[[Tensor], Tensor]) -> tuple[FlatModel, tuple[Tensor, Tensor], Tensor]:
    model = FlatModel(Net(between))
    generator = torch.Generator().manual_seed(1)
    batch = torch.randn(6, 3, 8, 8, generator=generator), torch.arange(6) % 3
    return model, batch, torch.randn(2, model.size, generator=generator)


@pytest.mark.parametrize("between", LOST)
def test_what_the_layout_would_lose_is_refused(between: Callable[[Tensor], Tensor]) -> None:
    model, batch, Z = problem(between)
    with pytest.raises(LayoutError, match=r"changes in place what it has from .*strategy='loop'"):
        check_strategy(model, "fused", batch)
    with pytest.raises(LayoutError):
        gradient_and_products(lambda p: model.loss(p, batch), model.theta(), Z, "fused")


@pytest.mark.parametrize("between", LOST)
def test_the_way_back_is_right_all_the_same(between: Callable[[Tensor], Tensor]) -> None:
    model, batch, Z = problem(between)
    given = lambda p: model.loss(p, batch), model.theta()  # noqa: E731
    g, multiply = gradient_and_multiplier(*given)
    plain, products = gradient_and_products(*given, Z, "loop")
    torch.testing.assert_close(g, plain, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(multiply(Z), products, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("between", KEPT)
def test_what_nobody_changes_through_a_view_is_fused(between: Callable[[Tensor], Tensor]) -> None:
    model, batch, Z = problem(between)
    check_strategy(model, "fused", batch)
    given = lambda p: model.loss(p, batch), model.theta(), Z  # noqa: E731
    g, products = gradient_and_products(*given, "fused")
    plain, expected = gradient_and_products(*given, "loop")
    torch.testing.assert_close(g, plain, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(products, expected, rtol=1e-4, atol=1e-5)
