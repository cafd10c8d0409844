"""Code that runs after the forward call has returned: recomputation and hooks."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from zoo.network import Around, Network, OnImages


def body() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.GELU())


class Checkpointed(Around):
    def __init__(self, reentrant: bool) -> None:
        super().__init__(body())
        self.reentrant = reentrant

    def inside(self, h: Tensor) -> Tensor:
        return checkpoint(self.middle, h, use_reentrant=self.reentrant)


class CheckpointedConvolution(OnImages):
    def inside(self, h: Tensor) -> Tensor:
        return checkpoint(super().inside, h, use_reentrant=False)


class CheckpointedSegments(Around):
    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh()))

    def inside(self, h: Tensor) -> Tensor:
        return checkpoint_sequential(self.middle, 2, h, use_reentrant=False)


class Packed(Around):
    """What backward needs is kept in another form, as in offloading."""

    def inside(self, h: Tensor) -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(lambda x: x.clone(), lambda x: x):
            return self.middle(h)


def hooked(register: str, hook: object) -> nn.Module:
    net = Around(body())
    getattr(net.middle.get_submodule("0"), register)(hook)
    return net


def looking(*_: object) -> None:
    """Looks, and changes nothing."""


def doubled(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    return 2 * output


def shifted(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0] + 0.5,)


def halved(module: nn.Module, into: tuple[Tensor], out: object) -> tuple[Tensor]:
    return (0.5 * into[0],)


class OfAWeight(Around):
    """The backward hook reads a weight at the time of backward."""

    def __init__(self) -> None:
        super().__init__(body())
        self.middle.register_full_backward_hook(self.scaled)  # type: ignore[arg-type]

    def scaled(self, module: nn.Module, into: tuple[Tensor], out: object) -> tuple[Tensor]:
        return (into[0] * (1 + self.head.weight.square().mean()),)


class TensorHook(Around):
    """A hook of an activation: it looks, or scales the gradient."""

    def __init__(self, factor: float) -> None:
        super().__init__(body())
        self.factor, self.seen = factor, 0

    def inside(self, h: Tensor) -> Tensor:
        h = self.middle(h)
        if h.requires_grad:
            h.register_hook(self.note)
        return h

    def note(self, g: Tensor) -> Tensor | None:
        return None if self.factor == 1 else self.factor * g


def parameter_hook() -> nn.Module:
    """The gradient of a parameter is scaled: no functional call reaches such a hook."""
    net = Around(body())
    net.head.weight.register_hook(lambda g: 3 * g)
    return net


def step_hook() -> nn.Module:
    """The same by the hook that runs once a gradient has been accumulated."""
    net = Around(body())

    def halve(parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad *= 0.5

    net.head.weight.register_post_accumulate_grad_hook(halve)
    return net


NO_INPUT = "None of the inputs have requires_grad"  # in evaluation, under no_grad
HOOK = "hook"

NETWORKS = (
    Network("checkpoint, non-reentrant", lambda: Checkpointed(False)),
    Network(
        "checkpoint, reentrant",
        lambda: Checkpointed(True),
        "either",
        "checkpoint|reentrant",
        warns=(NO_INPUT,),
    ),
    Network(
        "checkpoint over a convolution",
        lambda: CheckpointedConvolution(nn.BatchNorm2d(3)),
        "either",
    ),
    Network("checkpoint_sequential", CheckpointedSegments),
    Network("saved_tensors_hooks", lambda: Packed(body()), "either", HOOK),
    Network("forward hook that looks", lambda: hooked("register_forward_hook", looking)),
    Network("forward hook that doubles", lambda: hooked("register_forward_hook", doubled)),
    Network("forward pre-hook that shifts", lambda: hooked("register_forward_pre_hook", shifted)),
    Network(
        "backward hook that looks",
        lambda: hooked("register_full_backward_hook", looking),
        "either",
        HOOK,
    ),
    Network(
        "backward hook that halves",
        lambda: hooked("register_full_backward_hook", halved),
        "either",
        HOOK,
    ),
    Network("backward hook that reads a weight", OfAWeight, "either", HOOK),
    Network("tensor hook that looks", lambda: TensorHook(1.0), "either", HOOK),
    Network("tensor hook that doubles", lambda: TensorHook(2.0), "either", HOOK),
    Network("hook of a parameter", parameter_hook, "either", HOOK),
    Network("hook after accumulation", step_hook, "either", HOOK),
)
