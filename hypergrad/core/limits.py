"""Errors that say what PyTorch or this machine cannot do, as opposed to a mistake."""

import re

import torch

__all__ = ["is_out_of_memory", "known_limit"]

_LIMITS = {
    "out of memory": r"out of memory|not enough memory|can't allocate memory|"
    r"bad_alloc|_ALLOC_FAILED",
    "not batched by vmap": r"vmap|saved tensor hooks|batching rule|functorch|data pointer|"
    r"aten::item|Tensor\.item\(\)",
    "no forward-mode derivative": r"forward AD|forward-mode|jvp|save_for_forward|ZeroTensors",
    "no second derivative": r"derivative for .* is not implemented|differentiate twice|"
    r"double backward|once_differentiable",
}
_COMPILER = ("torch._dynamo", "torch._inductor")


def known_limit(error: RuntimeError) -> str | None:
    """Return in one line which limit an error is about, or None if it may be a mistake.

    >>> known_limit(NotImplementedError("no such kernel"))
    'not implemented: no such kernel'
    >>> known_limit(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"))
    """
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        kind = "out of memory"
    elif isinstance(error, NotImplementedError):
        kind = "not implemented"
    elif type(error).__module__.startswith(_COMPILER):
        kind = "not compiled"
    else:
        kinds = (kind for kind, said in _LIMITS.items() if re.search(said, text, re.IGNORECASE))
        kind = next(kinds, None)
    return None if kind is None else f"{kind}: {_short(text)}"


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error is for want of memory, of the CPU or of another device.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("sizes do not match"))
    (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    known = _LIMITS["out of memory"]
    return isinstance(error, RuntimeError) and re.search(known, str(error), re.I) is not None


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
