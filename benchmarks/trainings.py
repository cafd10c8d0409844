"""What `loop` times: one training, by hand and by each of the library's ways that only train."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from benchmarks import plain
from benchmarks.stand_in import stand_in
from hypergrad.config.composition import compose
from hypergrad.config.schema import RunConfig
from hypergrad.data import Dataset
from hypergrad.drivers.context import make_model
from hypergrad.drivers.cost import plan
from hypergrad.drivers.learn.driver import LearnDriver
from hypergrad.drivers.learn.inner_loop import RecordedInnerLoop
from hypergrad.drivers.search.candidates import Candidate
from hypergrad.drivers.search.trial import Trainer, Trial
from hypergrad.reporting.progress import RunProgress
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import Interrupt
from hypergrad.runs.run_log import RunLog

__all__ = ["TRAININGS", "Training", "trainings"]

RATE, MOMENTUM, DECAY = 0.01, 0.9, 5e-4
MEMBERS = 4


class Training(NamedTuple):
    """A network and its data.

    Attributes:
        data: Whose shape the images have.
        model: The network's name in `conf/model`.
        batch_size: Images in a minibatch.
        batches: Minibatches in an epoch.
        tests: Images to test on.
    """

    data: str
    model: str
    batch_size: int
    batches: int
    tests: int


TRAININGS: Mapping[str, Training] = {
    "lenet": Training("mnist", "lenet", 128, 100, 1000),
    "wrn_16_1": Training("cifar10", "wrn_16_1", 128, 10, 200),
}


def trainings(
    training: Training, device: str = "cpu", precision: str = "float32"
) -> dict[str, Callable[[], float]]:
    """Return what there is to time, by name.

    Args:
        training: What to train, for one epoch.
        device: Where.
        precision: float32 or float64.

    Returns:
        `plain`: by hand. `trial`: the final training of a search. `retrain`: that of a learned
        schedule, with everything that a run writes. `ensemble`: `MEMBERS` of such trials together.
        All train the same weights on the same minibatches, test once, and return the accuracy.
    """
    common = [
        f"data={training.data}",
        f"model={training.model}",
        f"method.batch_size={training.batch_size}",
        f"precision={precision}",
        "epochs=1",
    ]
    hand = [
        "baseline.schedule=constant",
        f"baseline.learning_rate={RATE}",
        f"baseline.momentum={MOMENTUM}",
        f"baseline.weight_decay={DECAY}",
    ]
    config, _ = compose("fig1", [*common, *hand])
    count = training.batches * training.batch_size
    data = stand_in(training.data, count, training.tests)
    data = data.to(torch.device(device), getattr(torch, precision))
    model = make_model(config, data, config.seed)
    clip = config.method.clip_gradient
    assert clip is not None
    recipe = plain.Recipe(
        epochs=1,
        batch_size=training.batch_size,
        key=(config.seed, "retrain", 0),
        augment=config.data.augment,
        learning_rate=RATE,
        momentum=MOMENTUM,
        weight_decay=DECAY,
        clip=clip,
    )
    trainer = Trainer(config, data)
    candidate = Candidate(0, "constant", (RATE,), (MOMENTUM,), (DECAY,))
    trial = Trial(candidate, config.seed, final=True)

    def searched(members: int) -> float:
        found = trainer.train([trial] * members)[0].test_accuracy
        assert found is not None
        return found

    return {
        "plain": lambda: plain.accuracy(plain.train(model.module, data.train, recipe), data.test),
        "trial": lambda: searched(1),
        "retrain": lambda: _retrain(config, data),
        "ensemble": lambda: searched(MEMBERS),
    }


def _retrain(config: RunConfig, data: Dataset) -> float:
    """Train as `hypergrad run` does with the baseline, its files and its display included."""
    model = make_model(config, data, config.seed)
    layout = plan(config, len(data.train), model.size)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        run = RunDirectory.create(Path(folder), config.name)
        log = RunLog(run, list(config.hyperparameters))
        with run.hold(), RunProgress(layout.cost, 1, 1, "", Console(file=nowhere)) as display:
            loop = RecordedInnerLoop(config, data, layout, log, display, Interrupt())
            loop.progress.method = "sgd"
            LearnDriver(config, data, lambda seed: model, layout, loop).run()
        log.close()
    return loop.progress.results[-1]["test_accuracy"]
