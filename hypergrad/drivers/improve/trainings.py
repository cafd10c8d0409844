"""The trainings of an improvement: of one seed in this process, of any in worker processes."""

from collections.abc import Callable

from hypergrad.config.schema import RunConfig
from hypergrad.core.move_space import MoveSpace
from hypergrad.data import Dataset
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.drivers.context import computing, prepare
from hypergrad.drivers.improve.space import move_space
from hypergrad.drivers.improve.subjects import subject_of
from hypergrad.training.improvement.trainer import Subject, outcome_of
from hypergrad.training.improvement.trainings import Key, Outcome, Training

__all__ = ["SeedTrainer", "begin", "work"]

_config: RunConfig | None = None  # of a worker process, with
_data: Dataset | None = None
_trainer: "SeedTrainer | None" = None


class SeedTrainer:
    """Does the trainings of one seed.

    Args:
        config: The run's configuration.
        data: The images.
        space: What moves.
        seed: Of the improvement.

    Attributes:
        seed: The same.
    """

    def __init__(self, config: RunConfig, data: Dataset, space: MoveSpace, seed: int) -> None:
        self.seed = seed
        self._config, self._data, self._space = config, data, space
        self._reverse = ReverseOptions(
            memory_gb=config.reverse.memory_gb,
            keep_graphs=config.reverse.keep_graphs,
            clip_adjoints=config.reverse.clip_adjoints,
            self_test=config.selftest == "on",
        )
        self._kept: tuple[Key, Subject] | None = None

    def subject(self, key: Key) -> Subject:
        """Return what a key stands for."""
        if self._kept is None or self._kept[0] != key:  # candidates of a race follow on one key
            subject = subject_of(key, self.seed, self._config, self._data, self._space)
            self._kept = key, subject
        return self._kept[1]

    def train(self, training: Training, tick: Callable[[], None] = lambda: None) -> Outcome:
        """Do a training; `tick` is called after every step, and what it raises ends it."""
        return outcome_of(training, self.subject(training.key), self._space, self._reverse, tick)


def begin(config: RunConfig) -> None:
    """Get a worker process ready: the data, once."""
    global _config, _data, _trainer
    _config, _data, _trainer = config, prepare(config).data, None


def work(task: tuple[int, Training]) -> Outcome:
    """Do a training of a seed in a worker process."""
    global _trainer
    assert _config is not None
    assert _data is not None
    seed, training = task
    if _trainer is None or _trainer.seed != seed:
        _trainer = SeedTrainer(_config, _data, move_space(_config), seed)
    with computing(_config):
        return _trainer.train(training)
