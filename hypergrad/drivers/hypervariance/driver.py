"""Driver of Figure 2: the repeats of a study of hypervariance, each kept as soon as it ends."""

import csv
import io
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from hypergrad.config.schema import RunConfig
from hypergrad.core.basis import windows
from hypergrad.core.functional_model import FlatModel
from hypergrad.drivers.context import RunContext, computing, make_model, prepare
from hypergrad.drivers.hypervariance.measurement import METHODS, Measurement, Task, measure, tasks
from hypergrad.drivers.threads import worker_threads
from hypergrad.parallel.pool import spread
from hypergrad.parallel.worker import Executor
from hypergrad.reporting.progress import TaskProgress
from hypergrad.runs.atomic import remove_leftovers, write_text_atomically
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.ground import fixed_digest
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.runs.records import read_record, write_record

__all__ = ["COLUMNS", "HypervarianceDriver"]

_ready: tuple[RunContext, FlatModel] | None = None  # of a worker process

COLUMNS = ("perturbation", "repeat", "method", "index", "start_step", "end_step", "value")


class HypervarianceDriver:
    """One study, from wherever its files say it is.

    Every finished repeat is a file under `repeats/`; `hypergradients.csv` gathers them in a fixed
    order, so that neither processes nor interruptions show in it.

    Args:
        context: What to run.
        run: Its directory, held by this process.
        display: Is told what happens.
        interrupt: Asks it to stop.
    """

    def __init__(
        self,
        context: RunContext,
        run: RunDirectory,
        display: TaskProgress,
        interrupt: Interrupt,
    ) -> None:
        self._context = context
        self._run = run
        self._display = display
        self._interrupt = interrupt
        self._folder = run.path / "repeats"
        self._ground = fixed_digest(run)

    def run(self) -> None:
        """Do all repeats that are left.

        Raises:
            Interrupted: When asked to stop; the repeats in flight are dropped.
        """
        config = self._context.config
        self._folder.mkdir(exist_ok=True)
        remove_leftovers(self._folder)
        wanted = tasks(config)
        found = {task: kept for task in wanted if (kept := self._read(task)) is not None}
        left = [task for task in wanted if task not in found]
        self._display.begin(len(wanted), len(found))
        self._gather(wanted, found)
        gathered = time.monotonic()
        try:
            for task, measurement in self._work(left):
                self._write(task, measurement)
                found[task] = measurement
                self._tell(task, measurement)
                if time.monotonic() - gathered > config.checkpoint_seconds:
                    self._gather(wanted, found)
                    gathered = time.monotonic()
        finally:
            self._gather(wanted, found)

    def _work(self, left: list[Task]) -> Iterator[tuple[Task, Measurement]]:
        config = self._context.config
        if (config.jobs > 1 or config.executor == "ray") and len(left) > 1:
            jobs = min(config.jobs, len(left))
            threads = worker_threads(config.threads, config.executor, jobs)
            executor = Executor(config.executor, jobs, config.gpus, threads)
            yield from spread(work, left, executor, self._interrupt, begin, (config,))
            return
        model = make_model(config, self._context.data, config.seed)

        def tick() -> None:
            if self._interrupt.requested:
                raise Interrupted(self._interrupt.requested)

        for task in left:
            yield task, measure(config, self._context.data, model, task, tick)

    def _tell(self, task: Task, found: Measurement) -> None:
        text = f"{task.perturbation.replace('_', ' ')} {task.repeat}"
        bad = [
            f"{method} at {'window' if method == 'shared' else 'step'} {lost[0]}"
            for method in METHODS
            if (lost := _not_finite(getattr(found, method)))
        ]
        if bad:
            self._display.note(f"{text}: hypergradients not finite: first {', '.join(bad)}")
        self._display.done(f"{text} · training loss {found.train_loss:.3g}")

    def _gather(self, wanted: list[Task], found: dict[Task, Measurement]) -> None:
        """Bring `hypergradients.csv` and the summary up to date."""
        config = self._context.config
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for task in wanted:
            if task in found:
                writer.writerows(_rows(config, task, found[task]))
        write_text_atomically(self._run.path / "hypergradients.csv", text.getvalue())
        fraction = len(found) / len(wanted)
        phase = "finished" if fraction == 1 else "repeats"
        self._run.update_summary({"progress": {"phase": phase, "fraction": fraction}})

    def _path(self, task: Task) -> Path:
        return self._folder / f"{task.perturbation}_{task.repeat:04d}.json"

    def _write(self, task: Task, found: Measurement) -> None:
        write_record(self._path(task), {**found._asdict(), "ground": self._ground})

    def _read(self, task: Task) -> Measurement | None:
        path = self._path(task)
        if not path.exists():
            return None
        try:
            kept = read_record(path)
            lists = {name: tuple(float(value) for value in kept[name]) for name in METHODS}
            self._check(lists)
            if kept["ground"] != self._ground:
                raise ValueError("it is of other settings, data or network")
            return Measurement(**lists, train_loss=float(kept["train_loss"]))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is damaged ({error}): delete it, and resume") from error

    def _check(self, lists: dict[str, tuple[float, ...]]) -> None:
        """Refuse what has more values than the study has steps or windows, or fewer."""
        study = self._context.config.hypervariance
        for name, values in lists.items():
            wanted = study.windows if name == "shared" else study.steps
            if len(values) != wanted:
                raise ValueError(f"{name} has {len(values)} values, not {wanted}")


def begin(config: RunConfig) -> None:
    """Get a worker process ready: the data and the network, once."""
    global _ready
    context = prepare(config)
    _ready = context, make_model(config, context.data, config.seed)


def work(task: Task) -> Measurement:
    """Do one repeat in a worker process."""
    assert _ready is not None
    context, model = _ready
    with computing(context.config):
        return measure(context.config, context.data, model, task)


def _rows(
    config: RunConfig, task: Task, found: Measurement
) -> Iterator[tuple[str, int, str, int, int, int, float]]:
    study = config.hypervariance
    shared = windows(study.windows, study.steps)
    single = windows(study.steps, study.steps)
    for method in METHODS:
        spans = shared if method == "shared" else single
        for index, (span, value) in enumerate(zip(spans, getattr(found, method), strict=True)):
            yield task.perturbation, task.repeat, method, index, span.start, span.stop, value


def _not_finite(values: tuple[float, ...]) -> list[int]:
    return (~torch.tensor(values, dtype=torch.float64).isfinite()).nonzero().flatten().tolist()
