"""What another memory layout would change besides speed, watched for while a loss is evaluated.

With the channels last in memory, `flatten` and its like copy where the user's layout gives a view.
Values are the same, until one of the two is changed in place and the other is read: that is
refused, as is code that asks how memory is laid out. Random numbers fill memory in its order: they
are drawn in the user's.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import resolve_name

__all__ = ["DATA", "LayoutError", "LayoutWatch"]

# A view of their input, or a copy: the layout decides.
EITHER = {
    Tensor.contiguous,
    Tensor.flatten,
    Tensor.ravel,
    Tensor.reshape,
    Tensor.reshape_as,
    Tensor.to,
    Tensor.view,
    Tensor.view_as,
    torch.flatten,
    torch.ravel,
    torch.reshape,
}
TURNS = {
    Tensor.T.__get__,  # type: ignore[attr-defined]
    Tensor.mT.__get__,  # type: ignore[attr-defined]
    *(getattr(Tensor, name) for name in ("movedim", "moveaxis", "permute", "t", "transpose")),
    *(getattr(Tensor, name) for name in ("swapaxes", "swapdims", "t_", "transpose_")),
    *(getattr(torch, name) for name in ("movedim", "moveaxis", "permute", "t", "transpose")),
    *(getattr(torch, name) for name in ("swapaxes", "swapdims")),
    torch.einsum,
}
ASKS = {
    Tensor.as_strided,
    Tensor.data_ptr,
    Tensor.is_contiguous,
    Tensor.storage,
    Tensor.stride,
    Tensor.untyped_storage,
    torch.as_strided,
}
DATA = Tensor.data.__get__  # type: ignore[attr-defined]
DRAWS = {
    Tensor.bernoulli,
    Tensor.bernoulli_,
    Tensor.exponential_,
    Tensor.normal_,
    Tensor.random_,
    Tensor.uniform_,
    torch.bernoulli,
    torch.normal,
    torch.rand_like,
    torch.randint_like,
    torch.randn_like,
}
# Where among their arguments these have `training`, what it is unless given, and `inplace`.
DROPOUTS = {
    F.alpha_dropout: (2, False, 3),
    F.dropout: (2, True, 3),
    F.rrelu: (3, False, 4),
    torch.dropout: (2, True, 3),
}


class LayoutError(ValueError):
    """A network whose values depend on how its activations lie in memory."""


@dataclass
class _Pair:
    """A tensor, and what was made of it: in one layout a view, in the other a copy.

    Attributes:
        name: Of the operation between them.
        source: What it was given.
        result: What it gave.
        versions: Of both, as last seen.
    """

    name: str
    source: Tensor
    result: Tensor
    versions: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.versions = self.source._version, self.result._version

    @property
    def memories(self) -> tuple[int, int]:
        """Where both lie."""
        return _memory(self.source), _memory(self.result)

    def changed(self) -> int | None:
        """Return what has been changed in place since the last look, or None.

        Raises:
            LayoutError: If both were: they share memory here, and cannot be told apart.
        """
        before, now = self.versions, (self.source._version, self.result._version)
        if now == before:
            return None
        self.versions = now
        if now[0] != before[0] and now[1] != before[1]:
            raise _lost(self.name)
        return self.memories[0 if now[0] != before[0] else 1]


class LayoutWatch:
    """Calls operations, and refuses where another layout than the user's would show.

    Attributes:
        active: Whether the layout of anything has been changed.
    """

    def __init__(self) -> None:
        self.active = False
        self._turned = False
        self._pairs: list[_Pair] = []
        # What a change elsewhere would have reached in the user's layout, and through what.
        self._stale: dict[int, str] = {}

    def forget(self) -> None:
        """Let go of all tensors."""
        self.__init__()

    def call(self, func: Callable, args: tuple, kwargs: Mapping, instead: Callable) -> object:
        """Return what `instead` gives, which stands for `func`.

        Raises:
            LayoutError: If it would be another value in the user's layout, or if that cannot be
                told.
        """
        if not self.active:
            return instead(*args, **kwargs)
        self._check_stale(args, kwargs)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is not None and (func in ASKS or func == DATA):
            self._check_asked(func, first)
        self._turned = self._turned or func in TURNS
        moved = first is not None and (self._turned or _relaid(first))
        if first is not None and moved and _draws(func, args, kwargs):
            result = self._drawn(func, first, args, kwargs)
        else:
            result = _called(func, args, kwargs, instead)
        for pair in self._pairs:
            where = pair.changed()
            if where is not None:
                self._spread(where)
        if func in EITHER and first is not None and isinstance(result, Tensor):
            self._note(func, first, result, args, kwargs)
        return result

    def _note(self, func: Callable, x: Tensor, y: Tensor, args: tuple, kwargs: Mapping) -> None:
        if not (_strided(x) and _strided(y)) or x.dtype != y.dtype or x.device != y.device:
            return  # another type is a copy in any layout
        copied = _memory(x) != _memory(y)
        asked = any(isinstance(given, torch.memory_format) for given in (*args, *kwargs.values()))
        # What shares memory here does so in the user's layout too, unless its order was changed.
        if copied or self._turned or asked:
            self._pairs.append(_Pair(_name(func), x, y))

    def _spread(self, where: int) -> None:
        """Note what a change somewhere would have reached."""
        reached, grew = {where}, True
        while grew:
            grew = False
            for pair in self._pairs:
                known = [memory in reached for memory in pair.memories]
                if any(known) and not all(known):
                    reached.update(pair.memories)
                    self._stale |= dict.fromkeys(set(pair.memories) - {where}, pair.name)
                    grew = True

    def _check_stale(self, args: tuple, kwargs: Mapping) -> None:
        if not self._stale:
            return
        for t in _tensors((args, kwargs)):
            if _strided(t) and _memory(t) in self._stale:
                raise _lost(self._stale[_memory(t)])

    def _drawn(self, func: Callable, x: Tensor, args: tuple, kwargs: Mapping) -> Tensor:
        """Return what `func` gives for `x` in rows, whose order in memory is the user's."""
        if self._turned or not _channels_last(x):
            raise LayoutError(
                "strategy fused computes in another memory layout, in which "
                f"{_name(func)} would draw other random numbers: use strategy='loop'"
            )
        y = func(x.contiguous(), *args[1:], **kwargs)
        return x.copy_(y) if _in_place(func, args, kwargs) else y

    def _check_asked(self, func: Callable, x: Tensor) -> None:
        if func == DATA:  # a change through it shows in no version
            kept = {memory for pair in self._pairs for memory in pair.memories}
            asks = _strided(x) and _memory(x) in kept
        else:
            asks = self._turned or _relaid(x)
        if asks:
            raise LayoutError(
                f"strategy fused computes in another memory layout, and the network calls "
                f"{_name(func)}, which can tell: use strategy='loop'"
            )


def _called(func: Callable, args: tuple, kwargs: Mapping, instead: Callable) -> object:
    try:
        return instead(*args, **kwargs)
    except RuntimeError as error:
        if "view size is not compatible" not in str(error):
            raise
        raise LayoutError(
            f"strategy fused computes in another memory layout, in which {_name(func)} cannot be "
            "done: use strategy='loop'"
        ) from error


def _draws(func: Callable, args: tuple, kwargs: Mapping) -> bool:
    """Whether random numbers are drawn, one an entry of the first argument."""
    if func not in DROPOUTS:
        return func in DRAWS
    place, training, _ = DROPOUTS[func]
    given = args[place] if len(args) > place else kwargs.get("training", kwargs.get("train"))
    return bool(training if given is None else given)


def _in_place(func: Callable, args: tuple, kwargs: Mapping) -> bool:
    if func not in DROPOUTS:
        return func.__name__.endswith("_")
    place = DROPOUTS[func][2]
    return bool(args[place] if len(args) > place else kwargs.get("inplace"))


def _lost(name: str) -> LayoutError:
    return LayoutError(
        f"strategy fused computes in another memory layout, in which what {name} gives is no view "
        "(or is one) of its input, and one of the two is changed in place: use strategy='loop'"
    )


def _name(func: Callable) -> str:
    return (resolve_name(func) or str(func)).removesuffix(".__get__")


def _strided(t: Tensor) -> bool:
    return t.layout is torch.strided and t.numel() > 0


def _memory(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()


def _channels_last(t: Tensor) -> bool:
    return t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last)


def _relaid(t: Tensor) -> bool:
    """Whether entries may lie elsewhere than in the user's layout."""
    return _strided(t) and t.dtype == torch.float32 and not t.is_contiguous()


def _tensors(nest: object) -> Iterator[Tensor]:
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, (tuple, list)):
        for each in nest:
            yield from _tensors(each)
    elif isinstance(nest, Mapping):
        for each in nest.values():
            yield from _tensors(each)
