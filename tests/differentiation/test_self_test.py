"""The start-up test: what it lets pass, and what it refuses by name."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import adamw
from hypergrad.core.schedule import Schedule
from hypergrad.differentiation import self_test as module_under_test
from hypergrad.differentiation.self_test import SelfTest, self_test

SCHEDULE = Schedule({"learning_rate": (0.0, 0.0), "momentum": (0.5,), "weight_decay": (0.01,)})


class Net(nn.Module):
    """Two linear layers, and something between them."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 5), nn.Linear(5, 3)
        self.between = between
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self, torch.tanh(self.first(x))))


def plain(net: nn.Module, h: Tensor) -> Tensor:
    return h


def checkpointed(net: nn.Module, h: Tensor) -> Tensor:
    def inside(h: Tensor) -> Tensor:
        return torch.sin(net.last(h) @ net.last.weight)

    return checkpoint(inside, h, use_reentrant=False)


def counting(net: nn.Module, h: Tensor) -> Tensor:
    net.calls = getattr(net, "calls", 0) + 1
    return h / net.calls


def averaging(net: nn.Module, h: Tensor) -> Tensor:
    net.average = 0.9 * getattr(net, "average", 0.0) + 0.1 * h.detach().mean(0)
    return h - net.average


def averaging_in_a_buffer(net: nn.Module, h: Tensor) -> Tensor:
    net.mean = 0.9 * net.mean + 0.1 * h.detach().mean(0)
    return h - net.mean


GENERATOR = torch.Generator()


def own_generator(net: nn.Module, h: Tensor) -> Tensor:
    return h + torch.randn(h.shape, generator=GENERATOR, dtype=h.dtype)


def scaled_without_grad(net: nn.Module, h: Tensor) -> Tensor:
    with torch.no_grad():
        size = h.norm()
    return h / size


def detached(net: nn.Module, h: Tensor) -> Tensor:
    return h / h.detach().norm()


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # noqa: ANN001, ANN205
        return x.clone()

    @staticmethod
    def backward(ctx, *grad_outputs):  # noqa: ANN001, ANN002, ANN205
        return -grad_outputs[0]


def reversed_gradient(net: nn.Module, h: Tensor) -> Tensor:
    return Reversed.apply(h)  # type: ignore[return-value]


def seen(net: nn.Module, h: Tensor) -> Tensor:
    net.seen = h.detach()  # kept for whoever wants to look, and never read
    return h


def dropped(net: nn.Module, h: Tensor) -> Tensor:
    return F.dropout(h, 0.4, net.training)


def attending(net: nn.Module, h: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(h[None], h[None], h[None])[0]


def outcome(
    module: nn.Module,
    strategy: str | None = "loop",
    dtype: torch.dtype = torch.float64,
    optimizer: InnerOptimizer = InnerOptimizer(),  # noqa: B008 (frozen)
    schedule: Schedule = SCHEDULE,
) -> SelfTest:
    torch.manual_seed(0)
    model = FlatModel(module.to(dtype))
    batch = torch.randn(8, 12, dtype=dtype), torch.arange(8) % 3
    bound = optimizer.bind(model, schedule)
    return self_test(model, model.theta(), batch, bound, schedule, strategy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("strategy", ["loop", "vmap", "fused", None])
@pytest.mark.parametrize("between", [plain, seen, attending])
def test_what_is_right_passes(between: Callable, strategy: str | None, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    found = outcome(Net(between), strategy, dtype)
    assert found.passed == ("repeats", "as torch.optim trains", "products as differences")
    assert found.remarks == ()


@pytest.mark.parametrize("between", [checkpointed, dropped])
def test_the_loop_takes_what_others_cannot(between: Callable) -> None:
    torch.manual_seed(1)
    assert outcome(Net(between)).remarks == ()


def test_another_optimiser_is_compared_with_its_own_in_torch() -> None:
    torch.manual_seed(1)
    schedule = Schedule({"learning_rate": (0.0,), "beta1": (0.8,)})
    outcome(Net(plain), optimizer=InnerOptimizer(adamw()), schedule=schedule)


@pytest.mark.parametrize(
    ("between", "message"),
    [
        (counting, "'calls' of Net changes from call to call"),
        (averaging, "'average' of Net changes from call to call"),
        (averaging_in_a_buffer, "the training loss reads the buffer 'mean' of Net, which follows"),
        (
            own_generator,
            "Net gives a result that depends on the batch that it was called",
        ),
        (scaled_without_grad, "the second derivative of Net is wrong"),
        (detached, "the second derivative of Net is wrong"),
        (reversed_gradient, "the second derivative of Net is wrong"),
    ],
)
@pytest.mark.parametrize("strategy", ["loop", None])
def test_what_is_wrong_is_refused_by_name(
    between: Callable, message: str, strategy: str | None
) -> None:
    torch.manual_seed(1)
    with pytest.raises(ValueError, match=message):
        outcome(Net(between), strategy)


def test_forward_derivatives_see_what_no_grad_hides_but_validation_does_not() -> None:
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="the gradient of the validation loss of Net is off by"):
        outcome(Net(scaled_without_grad), "vmap")


def net_of(layer: nn.Module) -> nn.Module:
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(5, 3))


@pytest.mark.parametrize(
    ("wrapped", "message"),
    [
        (parametrizations.weight_norm, "of '0.parametrizations.weight.0' (_WeightNorm) is wrong"),
        (parametrizations.spectral_norm, "of '0.parametrizations.weight.0' (_SpectralNorm)"),
    ],
)
def test_a_wrong_layer_is_named(wrapped: Callable, message: str) -> None:
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="(buffer|derivative)") as caught:
        outcome(net_of(wrapped(nn.Linear(12, 5))))
    assert message in str(caught.value)


def test_a_frozen_spectral_norm_passes() -> None:
    torch.manual_seed(1)
    net = net_of(parametrizations.spectral_norm(nn.Linear(12, 5)))
    net[0].eval()
    assert outcome(net).remarks == ()


def test_half_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="bfloat16.*keep the parameters in float32"):
        outcome(Net(plain), dtype=torch.bfloat16)


def test_a_loss_of_another_module_is_refused() -> None:
    outer = Net(plain).double()
    model = FlatModel(
        outer, lambda module, batch, values: F.cross_entropy(outer(batch[0]), batch[1])
    )
    batch = torch.randn(8, 12, dtype=torch.float64), torch.arange(8) % 3
    bound = InnerOptimizer().bind(model, SCHEDULE)
    with pytest.raises(ValueError, match="does not depend on the weights of the module that it is"):
        self_test(model, model.theta(), batch, bound, SCHEDULE, "loop")


def test_it_is_done_once_and_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    module = Net(dropped).double()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    model = FlatModel(module)
    batch = torch.randn(8, 12, dtype=torch.float64), torch.arange(8) % 3
    given = model, model.theta(), batch, InnerOptimizer().bind(model, SCHEDULE), SCHEDULE, "loop"
    state = torch.get_rng_state()
    first = self_test(*given)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], own) for name, own in module.state_dict().items())
    monkeypatch.setattr(module_under_test, "check_training", partial(pytest.fail, "once"))
    assert self_test(*given) is first


@pytest.mark.parametrize("seed", range(6))
def test_a_gradient_that_is_zero_but_for_rounding_is_no_fault(seed: int) -> None:
    # That of attention's key bias: AdamW steps on it, and it differs from kernel to kernel.
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            z = self.embedding(x)
            return self.head(self.attention(z, z, z, need_weights=False)[0].mean(1))

    torch.manual_seed(seed)
    words = torch.randint(0, 20, (20, 12), generator=torch.Generator().manual_seed(0))
    batch = words, (words.sum(1) > 114).long()
    rate = Hyperparameter("learning_rate", 1, 3e-3, scale="log")
    optimizer = InnerOptimizer(adamw(), (rate,))
    model = FlatModel(Attending(), nn.CrossEntropyLoss())
    bound, schedule = optimizer.bind(model, optimizer.start()), optimizer.start()
    assert self_test(model, model.theta(), batch, bound, schedule, "loop") is not None


def test_a_parameter_that_nothing_uses_is_compared_all_the_same() -> None:
    # torch.optim leaves it alone, and so does not decay it.
    net = Net(plain)
    net.spare = nn.Linear(3, 3)  # type: ignore[assignment]
    batch = torch.randn(8, 12), torch.arange(8) % 3
    model = FlatModel(net, F.cross_entropy)
    optimizer = InnerOptimizer()
    bound = optimizer.bind(model, SCHEDULE)
    with pytest.raises(ValueError, match="spare"):
        self_test(model, model.theta(), batch, bound, SCHEDULE, "loop")
