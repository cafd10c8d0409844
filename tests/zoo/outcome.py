"""What the library does with a network of the zoo: exact, refused, or wrong."""

import re
from typing import NamedTuple

import torch
from torch import Tensor, nn
from zoo.network import Network
from zoo.truth import HORIZON, SCHEDULE, SEED, batch_at, held_out, its_warnings, truth

from hypergrad import FlatModel, ForwardOptions, Objective, Schedule
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.result import Hypergradients

MODES = ("loop", "vmap", "stacked", "fused", "compiled", "reverse")
TYPES = {"float64": torch.float64, "float32": torch.float32}
SETTINGS = r"strategy|stacked|vmap|fused|compiled|reverse|precision"

# Relative to the largest entry. In float64 both sides carry the error of the differences (below
# 1e-8) and of rounding. In float32 an entry passes some hundred roundings of 6e-8, and batch
# normalisation of six examples multiplies them by up to a hundred.
WEIGHTS = {"float64": 1e-10, "float32": 1e-4}
HYPERGRADIENTS = {"float64": 1e-6, "float32": 1e-2}


class Outcome(NamedTuple):
    """What came of a network, a mode and a precision.

    Attributes:
        kind: `exact`, `refused` (a ValueError in one line that names the network or a setting),
            `wrong` (another number), or `raised` (an error that says nothing to a user).
        text: The error, or what differs.
    """

    kind: str
    text: str = ""


def hypergradients(network: Network, mode: str, precision: str) -> Hypergradients:
    """Return what the library computes, as anyone would call it."""
    dtype = TYPES[precision]
    module = network.build(dtype)
    model = FlatModel(module, Objective(network.loss(module)))
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
            found = hypergradients(network, mode, precision)
    except ValueError as error:
        return _refusal(network, str(error))
    except Exception as error:  # noqa: BLE001 (whatever it is, it is no refusal)
        return Outcome("raised", f"{type(error).__name__}: {error}".split("\n")[0])
    if network.expected == "refused":
        return Outcome("wrong", "not refused")
    expected = truth(network)
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
