"""How fast a run goes, and how long it will take."""

import time
from collections import deque

__all__ = ["Pace", "duration"]

MEMORY = 60.0  # seconds looked back on: the first steps of a run are unlike the others
ENOUGH = 2.0  # seconds without which a prediction would be a guess


class Pace:
    """Speed over the last minute, and the time left at that speed.

    Args:
        total: Gradient evaluations planned for the whole run.

    Attributes:
        elapsed: Seconds since the first step.
        left: Seconds left, or None while that is a guess.
    """

    def __init__(self, total: float) -> None:
        self._total = total
        self._samples: deque[tuple[float, float, int]] = deque()  # time, cost, steps
        self._began: float | None = None
        self._steps = 0
        self._rate = 0.0
        self.elapsed = 0.0
        self.left: float | None = None

    def count(self) -> None:
        """Count an inner step."""
        self._steps += 1

    def update(self, cost: float) -> None:
        """Look at the clock.

        Args:
            cost: Gradient evaluations of the run that are done.
        """
        now = time.monotonic()
        if self._began is None:
            self._began = now
        self.elapsed = now - self._began
        self._samples.append((now, cost, self._steps))
        while now - self._samples[0][0] > MEMORY and len(self._samples) > 2:
            self._samples.popleft()
        then, cost_then, steps_then = self._samples[0]
        if now - then < ENOUGH or cost <= cost_then:
            return
        self._rate = (self._steps - steps_then) / (now - then)
        self.left = max(self._total - cost, 0.0) * (now - then) / (cost - cost_then)

    def __str__(self) -> str:
        if self.left is None:
            return ""
        return f"{self._rate:.3g} steps/s · {duration(self.left)} left"


def duration(seconds: float) -> str:
    """Return a length of time as people say it.

    >>> duration(42), duration(130), duration(7300), duration(200000)
    ('42 s', '2 min', '2 h 2 min', '2 d 7 h')
    """
    minutes, hours = round(seconds / 60), int(seconds // 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"
