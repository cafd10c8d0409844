"""What another memory layout would change is refused; all else has the same values."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from problems import digits_problem
from seeded import reinitialise
from torch import Tensor, nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.curvature import LayoutError, gradient_and_multiplier, gradient_and_products
from hypergrad.curvature.autotune import check_strategy, choose_strategy

Between = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """Two convolutions and a head, with something of one's own between."""

    def __init__(self, between: Between) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.between(self.second(torch.tanh(self.first(x)))).flatten(1)[:, :16]


def clamped_view(h: Tensor) -> Tensor:
    h.view(len(h), -1).clamp_(min=0)
    return h


def flattened(h: Tensor) -> Tensor:
    h.flatten(1).mul_(2)
    return h


def reshaped(h: Tensor) -> Tensor:
    flat = h.reshape(len(h), -1)
    flat[:, ::2] = 0
    return torch.tanh(h)


def source_changed(h: Tensor) -> Tensor:
    flat = h.view(len(h), -1)
    h.mul_(3)
    return torch.tanh(flat)


def slice_viewed(h: Tensor) -> Tensor:
    h[:, 0].view(len(h), -1).zero_()
    return torch.tanh(h)


def split(h: Tensor) -> Tensor:
    h.view(len(h), 2, 2, *h.shape[2:])[:, 0].add_(1)  # a view in both
    return h


def two_views(h: Tensor) -> Tensor:
    one, other = h.flatten(1), h.view(len(h), -1)
    one.mul_(2)
    return torch.tanh(other)


def raveled(h: Tensor) -> Tensor:
    h.ravel().relu_()
    return h


def made_contiguous(h: Tensor) -> Tensor:
    F.relu(h.contiguous(), inplace=True)
    return h


def viewed_as(h: Tensor) -> Tensor:
    h.view_as(h.new_empty(len(h), h[0].numel())).add_(1)
    return h


def turned(h: Tensor) -> Tensor:
    last = h.permute(0, 2, 3, 1)
    last.reshape(len(h), -1).mul_(2)  # a copy in the user's layout
    return last


def turned_and_computed(h: Tensor) -> Tensor:
    last = torch.tanh(h.permute(0, 2, 3, 1))
    last.contiguous().mul_(2)
    return last


def asked_for_layout(h: Tensor) -> Tensor:
    h.contiguous(memory_format=torch.channels_last).mul_(2)
    return h


def through_data(h: Tensor) -> Tensor:
    h.view(len(h), -1).data.mul_(2)
    return h


def strided(h: Tensor) -> Tensor:
    return h.as_strided((len(h), 16), (h[0].numel(), 1))


def turned_and_strided(h: Tensor) -> Tensor:
    return torch.tanh(h.permute(0, 2, 3, 1)).as_strided((len(h), 16), (64, 1))


def by_strides(h: Tensor) -> Tensor:
    return h * h.stride(1)


def by_contiguity(h: Tensor) -> Tensor:
    return torch.tanh(h) if h.is_contiguous() else h


def dropped_after_a_turn(h: Tensor) -> Tensor:
    return F.dropout(torch.tanh(h.permute(0, 2, 3, 1)))


REFUSED = (
    clamped_view, flattened, reshaped, source_changed, two_views, raveled,
    made_contiguous, viewed_as, turned, turned_and_computed, asked_for_layout, through_data,
    strided, turned_and_strided, by_strides, by_contiguity, dropped_after_a_turn,
)  # fmt: skip


def only_changed(h: Tensor) -> Tensor:
    return F.relu(h.flatten(1), inplace=True)  # nobody reads what it was made of


def pixel_shuffle(h: Tensor) -> Tensor:
    B, _, H, W = h.shape
    y = h.view(B, 1, 2, 2, H, W).permute(0, 1, 4, 2, 5, 3).reshape(B, 1, 2 * H, 2 * W)
    return torch.tanh(y) + F.pixel_shuffle(h, 2)


def channel_shuffle(h: Tensor) -> Tensor:
    B, C, H, W = h.shape
    y = h.view(B, 2, C // 2, H, W).transpose(1, 2).contiguous().view(B, -1, H, W)
    return F.relu(y * 2, inplace=True) + h


def view_with_names(h: Tensor) -> Tensor:
    return torch.tanh(h.view(size=(len(h), -1)) + h.view([len(h), -1]))


def dropped(h: Tensor) -> Tensor:
    return F.dropout(h, 0.3) + F.dropout(h * 2, 0.3, True, True) + torch.rand_like(h)


def noisy(h: Tensor) -> Tensor:
    noise, kept = torch.empty_like(h), h * 2
    noise.normal_()
    F.dropout(kept, 0.3, inplace=True)
    return h + noise + kept


def undropped_after_a_turn(h: Tensor) -> Tensor:
    return F.dropout(torch.tanh(h.permute(0, 2, 3, 1)), training=False)


def read_as(h: Tensor) -> Tensor:
    return torch.tanh(h.view_as(h.new_empty(len(h), h[0].numel())))


TAKEN = (
    only_changed,
    slice_viewed,
    split,
    pixel_shuffle,
    channel_shuffle,
    view_with_names,
    dropped,
    noisy,
    undropped_after_a_turn,
    read_as,
)


def problem(module: nn.Module) -> tuple[FlatModel, tuple[Tensor, Tensor], Tensor]:
    torch.manual_seed(0)
    model = FlatModel(module)
    batch = torch.randn(6, 2, 4, 4), torch.arange(6)
    return model, batch, torch.randn(2, model.size)


def products(module: nn.Module, strategy: str) -> tuple[Tensor, Tensor]:
    model, batch, Z = problem(module)
    return gradient_and_products(lambda t: model.loss(t, batch), model.theta(), Z, strategy)


@pytest.mark.parametrize("between", REFUSED)
def test_what_the_layout_would_change_is_refused(between: Between) -> None:
    torch.manual_seed(1)
    net = Net(between)
    with pytest.raises(LayoutError, match=r"strategy fused .*: use strategy='loop'"):
        products(net, "fused")
    model, batch, _ = problem(net)
    with pytest.raises(LayoutError, match="strategy fused"):
        check_strategy(model, "fused", batch)


def test_what_cannot_be_done_in_the_layout_is_told_from_a_mistake() -> None:
    def without_a_word(h: Tensor) -> Tensor:
        return torch.ops.aten.view.default(h, [len(h), -1])

    with pytest.raises(LayoutError, match="in which .*view.* cannot be done: use strategy='loop'"):
        products(Net(without_a_word), "fused")
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        products(Net(lambda h: h.flatten(1) @ torch.ones(3, 3)), "fused")


def test_a_refusal_names_the_operation() -> None:
    with pytest.raises(LayoutError, match=r"what torch\.Tensor\.flatten gives is no view"):
        products(Net(flattened), "fused")
    with pytest.raises(LayoutError, match=r"calls torch\.Tensor\.as_strided"):
        products(Net(strided), "fused")


@pytest.mark.parametrize("between", [clamped_view, source_changed, strided])
def test_reverse_mode_evaluates_as_the_user_would(between: Between) -> None:
    model, batch, Z = problem(Net(between))
    theta = model.theta()
    g, multiply = gradient_and_multiplier(lambda t: model.loss(t, batch), theta)
    expected = gradient_and_products(lambda t: model.loss(t, batch), theta, Z, "loop")
    torch.testing.assert_close((g, multiply(Z)), expected, rtol=0, atol=0)


@pytest.mark.parametrize("between", TAKEN)
def test_what_no_layout_changes_is_taken(between: Between) -> None:
    net = Net(between)
    check_strategy(problem(net)[0], "fused", problem(net)[1])
    torch.testing.assert_close(products(net, "fused"), products(net, "loop"), rtol=1e-4, atol=1e-5)


def test_the_users_own_channels_last_is_no_change() -> None:
    net = Net(asked_for_layout).to(memory_format=torch.channels_last)

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.contiguous(memory_format=torch.channels_last))

    torch.testing.assert_close(
        products(Own(), "fused"), products(Own(), "loop"), rtol=1e-4, atol=1e-5
    )


class Block(nn.Module):
    """As torchvision has it: everything in place, a residual sum too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x
        return self.relu(out)


LIKE_TORCHVISION = {
    "resnet": nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        Block(4), Block(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6),
    ),
    "vgg": nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 8),
        nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(8, 6),
    ),
    "flattened, then rectified": nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.ReLU(inplace=True),
        nn.Linear(16, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIKE_TORCHVISION)
def test_networks_in_place_are_exact(name: str) -> None:
    torch.manual_seed(2)
    model, batch, Z = problem(reinitialise(LIKE_TORCHVISION[name]))
    check_strategy(model, "fused", batch)

    def found(strategy: str) -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)  # of dropout's masks
        buffers = model.buffers()
        return gradient_and_products(
            lambda t: model.tracked_loss(t, batch, buffers)[0], model.theta(), Z, strategy
        )

    torch.testing.assert_close(found("fused"), found("loop"), rtol=1e-4, atol=1e-5)


def test_a_change_without_a_trace_is_seen_by_the_rectification() -> None:
    class Traceless(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            y = self[0](input)
            y.data[:, 0] = 0.5
            return F.relu(y).flatten(1)

    net = Traceless(nn.BatchNorm2d(2))
    x = torch.randn(6, 2, 4, 4)
    model = FlatModel(net.double())
    seen = [
        gradient_and_products(
            lambda t: model.loss(t, (x.double(), torch.arange(6))),
            model.theta(), torch.ones(1, 4, dtype=torch.float64), how,
        )[0]
        for how in ("fused", "loop")
    ]  # fmt: skip
    torch.testing.assert_close(*seen)


def test_the_trial_leaves_what_it_cannot_judge_and_the_generator() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.conv(x)).view(6, -1)  # of six examples alone

    model, batch, _ = problem(Fixed())
    state = torch.get_rng_state()
    check_strategy(model, "fused", batch)
    assert torch.equal(torch.get_rng_state(), state)


def test_auto_skips_it() -> None:
    data = digits_problem("lenet", dtype=torch.float32).batch_at(0)

    class Images(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return clamped_view(super().forward(input)).flatten(1)

    model = FlatModel(Images(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3)))
    assert "fused" not in choose_strategy(model, model.theta(), data, 2).seconds
