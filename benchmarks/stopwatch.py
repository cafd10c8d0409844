"""Where the time of a program goes, by watching some of its functions from outside."""

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["Stopwatch"]


class Stopwatch:
    """Seconds spent in watched functions; what one calls of another counts for the inner one.

    Args:
        clock: Returns seconds.

    Attributes:
        seconds: By the name that a function is watched under.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock = clock
        self._inner: list[float] = []  # of each call under way: what others took within it

    @contextmanager
    def watching(self, places: dict[str, list[tuple[type, str]]]) -> Iterator[None]:
        """Watch methods until the block ends.

        Args:
            places: Classes and names of methods, by the name to watch them under.
        """
        kept = [
            (owner, name, vars(owner)[name])
            for methods in places.values()
            for owner, name in methods
        ]
        try:
            for label, methods in places.items():
                for owner, name in methods:
                    setattr(owner, name, self._watched(label, vars(owner)[name]))
            yield
        finally:
            for owner, name, function in kept:
                setattr(owner, name, function)

    def _watched(self, label: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args: object, **kwargs: object) -> object:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self._inner.append(0.0)
            began = self._clock()
            try:
                return function(*args, **kwargs)
            finally:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                took = self._clock() - began
                self.seconds[label] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        return call
