"""Driver of `hypergrad improve`: the plan of each seed, from whatever its records say is done."""

import statistics
from collections.abc import Iterator, Sequence
from functools import partial

from hypergrad.core.schedule import Schedule
from hypergrad.drivers.context import RunContext
from hypergrad.drivers.improve.records import Records
from hypergrad.drivers.improve.space import improve_options, move_space
from hypergrad.drivers.improve.subjects import subject_of
from hypergrad.drivers.improve.trainings import SeedTrainer, begin, work
from hypergrad.drivers.threads import worker_count, worker_threads
from hypergrad.parallel.pool import spread
from hypergrad.parallel.worker import Executor, WorkerLost
from hypergrad.reporting.progress import TaskProgress
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.ground import fixed_digest
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.training.improvement.follow import Done, follow, one_by_one
from hypergrad.training.improvement.plan import Found, cap_of, gain, improvement
from hypergrad.training.improvement.trainer import untrained_loss
from hypergrad.training.improvement.trainings import Key, Outcome, Training
from hypergrad.training.outer_state import schedule_as_dict

__all__ = ["ImproveDriver"]

LOSSES = 3  # workers lost in a row, without a training done in between, that end a run


class ImproveDriver:
    """One run, from wherever its records say it is.

    Args:
        context: What to run.
        run: Its directory.
        display: Is told what happens.
        interrupt: Asks it to stop; the trainings under way are given up.
    """

    def __init__(
        self, context: RunContext, run: RunDirectory, display: TaskProgress, interrupt: Interrupt
    ) -> None:
        self._config, self._data = context.config, context.data
        self._run, self._display, self._interrupt = run, display, interrupt
        self._space = move_space(context.config)
        self._workers = worker_count(context.config, context.plan)
        self._total = len(context.plan.runs) * len(context.config.seeds)
        self._count = 0

    def run(self) -> None:
        """Improve the schedule of every seed, and write down what came of it.

        Raises:
            Interrupted: When asked to stop.
        """
        records = Records(self._run.path / "trainings.csv", fixed_digest(self._run))
        try:
            before = sum(len(records.of(seed)) for seed in self._config.seeds)
            self._count = before
            self._display.begin(None, before, before / self._total)
            found = {seed: self._improve(seed, records) for seed in self._config.seeds}
        finally:
            records.close()
        self._conclude(found)

    def _improve(self, seed: int, records: Records) -> Found:
        options = improve_options(self._config, seed)
        trainer = SeedTrainer(self._config, self._data, self._space, seed)

        def note(training: Training, outcome: Outcome) -> None:
            records.append(seed, training, outcome)
            self._count += 1
            text = f"seed {seed}, {training.key.stage} {training.name}: loss {outcome.loss:.4g}"
            self._display.done(text, share=min(self._count / self._total, 1.0))

        cap = cap_of(untrained_loss(trainer.subject(Key("ladder", 0))), options)
        plan = improvement(self._space, options, cap)
        train = one_by_one(partial(trainer.train, tick=self._tick))
        if self._workers > 1 or self._config.executor != "local":
            train = partial(self._spread, seed)
        return follow(plan, train, records.of(seed), note)

    def _spread(self, seed: int, asked: Sequence[Training]) -> Iterator[Done]:
        """Do trainings in worker processes; those of a worker that dies are begun again."""
        config, left, lost = self._config, list(asked), 0
        executor = Executor(
            name=config.executor,
            jobs=self._workers,
            gpus=config.gpus,
            threads=worker_threads(config.threads, config.executor, self._workers),
        )
        while left:
            tasks = [(seed, training) for training in left]
            try:
                for (_, training), outcome in spread(
                    work, tasks, executor, self._interrupt, begin, (config,)
                ):
                    left.remove(training)
                    lost = 0
                    yield training, outcome
            except WorkerLost as error:
                lost += 1
                if lost == LOSSES:
                    raise
                self._display.note(f"{error}: its trainings are begun again")

    def _tick(self) -> None:
        if self._interrupt.requested:
            raise Interrupted(self._interrupt.requested)

    def _conclude(self, found: dict[int, Found]) -> None:
        steps = self._steps()
        schedules = [self._entry(seed, each, steps) for seed, each in found.items()]
        self._run.write_json("schedule.json", {"schedules": schedules})
        self._run.write_json(
            "improve.json", {"seeds": [self._told(*each) for each in found.items()]}
        )
        self._run.update_summary(
            {
                "results": [row for seed, each in found.items() for row in _results(seed, each)],
                "spent": [{"seed": s, **f.spent._asdict()} for s, f in found.items()],
                "progress": {"phase": "finished", "fraction": 1.0},
            }
        )

    def _steps(self) -> int:
        config = self._config
        return config.epochs * (len(self._data.train) // config.method.batch_size)

    def _entry(self, seed: int, found: Found, steps: int) -> dict[str, object]:
        """A seed's schedule over the steps of the whole training set."""
        race = found.confirmation[1]
        losses, accuracies = race.losses[race.best], race.metrics[race.best]
        key = Key("judge", 0)
        model = subject_of(key, seed, self._config, self._data, self._space).problem.model
        own = self._space.schedule(found.chosen, steps)
        known = self._space.optimizer.learned_for(model)
        return {
            "seed": seed,
            "steps": steps,
            # On the confirmation's seeds; none where the base alone was left.
            "validation_accuracy": statistics.mean(accuracies) if accuracies else 0.0,
            "validation_loss": statistics.mean(losses) if losses else None,
            "chosen": found.name,
            "confirmed": gain(found),
            "base": self._space.schedule(self._space.origin, steps).as_dict(),
            **schedule_as_dict(Schedule(own, own.bases, known)),
        }

    def _told(self, seed: int, found: Found) -> dict[str, object]:
        """A seed's entry in `improve.json`."""
        names, race = found.confirmation
        return {
            "seed": seed,
            "chosen": found.name,
            "factor": found.chosen.factor,
            "moves": [
                {"kind": name, "index": index, "move": move}
                for (name, index), move in zip(self._space.names, found.chosen.moves, strict=True)
            ],
            "ladder": [rung._asdict() for rung in found.rungs],
            "iterations": [
                {
                    "collapsed": each.collapsed,
                    "direction": list(each.direction),
                    "radius": each.radius,
                    "losses": None
                    if each.race is None
                    else [list(own) for own in each.race.losses],
                    "best": None if each.race is None else each.race.best,
                }
                for each in found.iterations
            ],
            "ended": found.ended,
            "confirmation": dict(zip(names, map(list, race.losses), strict=True)),
            "loss_difference": None if found.loss is None else found.loss._asdict(),
            "accuracy_difference": None if found.accuracy is None else found.accuracy._asdict(),
            "judged": None if found.judged is None else [list(own) for own in found.judged],
            "gain": gain(found),
            "spent": found.spent._asdict(),
        }


def _results(seed: int, found: Found) -> list[dict[str, object]]:
    """Mean test accuracies of the judgement; of a base that stays there is none."""
    if found.judged is None:
        return []
    return [
        {
            "seed": seed,
            "method": method,
            "test_accuracy": statistics.mean(own),
            "validation_accuracy": None,
            "diverged": False,
            "outer_step": None,
        }
        for method, own in zip(("base", "improved"), found.judged, strict=True)
    ]
