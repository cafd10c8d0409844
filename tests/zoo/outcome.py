"""What the library does with a network of the zoo: exact, refused, or wrong."""

import re
from typing import NamedTuple

import torch
from torch import Tensor, nn
from zoo.network import Network
from zoo.truth import HORIZON, SCHEDULE, SEED, Truth, batch_at, held_out, its_warnings, truth

from hypergrad import FlatModel, ForwardOptions, Objective, Schedule
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.result import Hypergradients

MODES = ("loop", "vmap", "stacked", "fused", "reverse")
TYPES = {"float64": torch.float64, "float32": torch.float32}
SETTINGS = r"strategy|stacked|vmap|fused|reverse|precision"

# Relative to the largest entry. In float64 what is known to be right differs from differences by
# 1e-10, and by the error of the differences, which is added. In float32 an entry passes some
# hundred roundings of 6e-8: what is right is seen to differ by 1e-5 at most. A missing term of
# second order can be as small as 2e-4 (the power iteration of spectral_norm).
WEIGHTS = {"float64": 1e-10, "float32": 1e-5}
HYPERGRADIENTS = {"float64": 1e-8, "float32": 5e-5}


class Outcome(NamedTuple):
    """What came of a network, a mode and a precision.

    Attributes:
        kind: `exact`, `refused` (a ValueError in one line that names the network or a setting),
            `wrong` (another number), or `raised` (an error that says nothing to a user).
        text: The error, or what differs.
    """

    kind: str
    text: str = ""


def hypergradients(network: Network, model: FlatModel, mode: str, precision: str) -> Hypergradients:
    """Return what the library computes, as anyone would call it."""
    dtype = TYPES[precision]
    given = (
        model,
        model.theta(),
        lambda step: batch_at(network, step, dtype),
        held_out(network, dtype),
        Schedule(SCHEDULE),
        HORIZON,
    )
    torch.manual_seed(SEED)
    if mode == "reverse":
        return reverse.hypergradients(*given)
    return forward.hypergradients(*given, ForwardOptions(strategy=mode))


def outcome(network: Network, mode: str, precision: str) -> Outcome:
    """Try a network.

    Args:
        network: From the zoo.
        mode: One of `MODES`: a strategy of forward mode, or `reverse`.
        precision: One of `TYPES`.
    """
    try:
        with its_warnings(network), torch.random.fork_rng(devices=[]):
            module = network.build(TYPES[precision])
            before = _state(module)
            model = FlatModel(module, Objective(network.loss(module)))
            found = hypergradients(network, model, mode, precision)
            again = hypergradients(network, model, mode, precision)
    except ValueError as error:
        return _refusal(network, str(error))
    except Exception as error:  # noqa: BLE001 (whatever it is, it is no refusal)
        return Outcome("raised", f"{type(error).__name__}: {error}".split("\n")[0])
    if network.expected == "refused":
        return Outcome("wrong", "not refused")
    changed = [name for name, value in _state(module).items() if not _same(value, before[name])]
    if changed:
        return Outcome("wrong", f"the user's module was changed: {', '.join(changed)}")
    compared = _against_the_truth(found, truth(network), precision)
    if compared.kind == "exact" and again.values != found.values:
        return Outcome("wrong", "a second call gives other numbers")
    return compared


def _against_the_truth(found: Hypergradients, expected: Truth, precision: str) -> Outcome:
    apart = _apart(found.state.theta, expected.weights)
    if not apart <= WEIGHTS[precision]:
        return Outcome("wrong", f"weights differ by {apart:.1e}")
    pairs = zip(found.values, found.contributing, strict=True)
    summed = torch.tensor([h * steps for h, steps in pairs], dtype=torch.float64)
    known = float(expected.error.max() / expected.hypergradients.abs().max())
    apart = _apart(summed, expected.hypergradients)
    if not apart <= HYPERGRADIENTS[precision] + known:
        return Outcome("wrong", f"hypergradients differ by {apart:.1e}")
    return Outcome("exact", f"{apart:.0e}")


def _state(module: nn.Module) -> dict[str, object]:
    """Parameters, buffers, modes and numbers of a module, copied."""
    own: dict[str, object] = {}
    for name, child in module.named_modules():
        numbers = {k: v for k, v in vars(child).items() if isinstance(v, (bool, int, float))}
        own |= {f"{name}.{key}".lstrip("."): value for key, value in numbers.items()}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        own[name] = None if nn.parameter.is_lazy(tensor) else tensor.detach().clone()
    return own


def _same(a: object, b: object) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b


def _apart(mine: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest entry."""
    return float((mine.double() - theirs).abs().max() / theirs.abs().max())


def _refusal(network: Network, text: str) -> Outcome:
    if "\n" in text:
        return Outcome("raised", f"more than one line: {text.splitlines()[0]}")
    with its_warnings(network):
        module = network.build(torch.float32)
    if not re.search(f"{_names(module)}|{SETTINGS}|{network.names or '(?!)'}", text):
        return Outcome("raised", f"names nothing: {text}")
    return Outcome("refused", text)


def _names(module: nn.Module) -> str:
    """A regular expression of the classes and attributes of a network."""
    own = {type(child).__name__ for child in module.modules()}
    own |= {name for name, _ in module.named_modules() if name}
    own |= {name for name, _ in module.named_buffers()}
    return "|".join(rf"\b{re.escape(name)}\b" for name in sorted(own) if not name.isdigit())
