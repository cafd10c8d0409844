"""A search that one holds: watch it, stop it, save it, go on with it, take its schedule away.

search = Search(module, loss, batches, validation, epochs=10, optimizer=optimizer)
for step in search:
print(step.number, step.validation_accuracy)
schedule = search.best.schedule
"""

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from hypergrad.api.problem import (
    GivenBatches,
    GivenValidation,
    LibraryProblem,
    Options,
    options_as_dict,
    options_from,
)
from hypergrad.api.search_display import SearchDisplay
from hypergrad.api.search_log import SearchAbout, SearchLog
from hypergrad.api.watched_loop import WatchedLoop
from hypergrad.core.budget import Budget, Spent
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.objective import Criterion, Loss, Objective
from hypergrad.core.outer_optimizer import selection_key
from hypergrad.runs.checkpoint import CheckpointStore
from hypergrad.training.inner_run import InnerRun
from hypergrad.training.outer_loop import OuterData, OuterOptions, OuterStep
from hypergrad.training.outer_search import OuterProblem, OuterSearch
from hypergrad.training.outer_state import progress_as_dict, progress_from, step_as_dict, step_from
from hypergrad.training.random_state import random_state

__all__ = ["Search", "best"]

FORMAT = 1
RUN = "run."  # before the names of an inner run's tensors


class Search(OuterSearch):
    """Learn the hyperparameters of one's own training, whatever it is, one outer step a `next`.

    Every outer step trains anew from the weights that the module has when the search is made; they
    are left as they are. Nothing is printed unless asked. Ctrl-C, and whatever a log or the body of
    the loop raises, leaves the search where it is: `next` goes on from there (or from the newest
    checkpoint of a log that keeps some), in this process or, with `save` and `resume`, in another,
    to the same bits. Ctrl-C comes between two inner steps; a second one at
    once, and then the outer step begins anew.

    Args:
        module: Any twice differentiable module, on the device and in the precision wanted; or a
            function that makes one with fresh weights.
        objective: Its loss, validation loss and metric; or the loss alone, of (module, batch,
            values); or a criterion, which maps (predictions, labels) to the mean loss of a batch.
        batches: The minibatch of every inner step (see `hypergrad.data.sources`), the same in
            every outer step; or a function from the outer step to those. A DataLoader is kept in
            memory, see `CachedBatches`; one that shuffles needs a seeded generator if the search
            is to go on in another process.
        validation: Batches of validation data, the same for every outer step, or a function from
            the outer step to those.
        epochs: The horizon: how long each outer step trains.
        optimizer: The inner optimiser, with the hyperparameters that are learned.
        shared: Otherwise every inner step has a value of its own, whatever the bases are; that
            takes `ReverseOptions`.
        outer_steps: How many at most.
        first_horizons: Epochs of the first outer steps: where a learning rate starts at zero the
            weights do not move, and later windows stretch to a longer horizon.
        tolerance: Stop when every step size is under this share of its value.
        options: Forward mode (clipping of products, truncation, how Hessian products are
            computed), or reverse mode, for which any number of values costs the same. None: with
            eight values or more both are tried for a moment, and reverse mode is taken where it
            needs less than half the time (and can go back: no random numbers, data that begins
            again, memory for the states); otherwise forward mode.
        replay: Whether forward mode records its steps as CUDA graphs: `auto` (on CUDA, where it
            can), `always`, `never`. What a module counts in Python does not count then.
        patience: Stop after so many outer steps without a better metric, or None.
        budget: Stop where another outer step would overshoot it: `2h`, `20trials` or
            `1e6gradients`, a Hessian product counting as two. None: no budget.
        sign_agreement: So many further trajectories an outer step, which differ from it in
            rounding, tell which signs are reproducible (`HypergradientDiagnostics.sign_agreement`,
            and a warning); each costs what the first did.
        trajectories: Trainings of every outer step. With more than one, the others begin with fresh
            weights (the module's `reset_parameters`, or the function that makes it), and data and
            validation are asked for with a further number each; it moves by the mean of their
            hypergradients, and a coefficient stays whose mean is below its standard error
            (`HypergradientDiagnostics.t_statistic`).
        descent: `signs`: every value moves by its step size, which halves when its hypergradient's
            sign flips. `averaged`: along averages of the hypergradients over the outer steps, by
            its first move where they agree; better with many values, whose signs are mostly
            noise, and steps of half the size do there.
        log: What the search writes through; nothing unless given. `RunFolder` keeps a run
            directory, which `hypergrad runs` and `hypergrad plot` read.
        show_progress: Draw a bar on stderr while an outer step is under way.

    Attributes:
        history: The outer steps taken, in order; the last one may be the worst.
        ended: Why the search has ended; empty if all outer steps were taken, None while it goes on.

    Raises:
        ValueError: For arguments out of range, data that cannot go back where that is needed,
            windows that do not fit the horizon, hyperparameters that nothing asks for, or dropout
            with `vmap` or with Hessian products in lower precision.
    """

    def __init__(
        self,
        module: nn.Module | Callable[[], nn.Module],
        objective: Objective | Loss | Criterion,
        batches: GivenBatches,
        validation: GivenValidation,
        *,
        epochs: int,
        optimizer: InnerOptimizer,
        shared: bool = True,
        outer_steps: int = 10,
        first_horizons: Sequence[int] = (),
        tolerance: float = 0.05,
        options: Options | None = None,
        replay: str = "auto",
        patience: int | None = None,
        budget: str | None = None,
        sign_agreement: int = 0,
        trajectories: int = 1,
        descent: str = "signs",
        log: SearchLog | None = None,
        show_progress: bool = False,
    ) -> None:
        outer = _outer_options(
            *(epochs, outer_steps, first_horizons, tolerance, patience, budget),
            *(sign_agreement, trajectories, descent),
        )
        self._library = LibraryProblem(
            module, objective, batches, validation, optimizer, outer, shared, options, replay
        )
        self.history: list[OuterStep] = []
        if log is not None and not isinstance(log, SearchLog):
            raise ValueError(f"log={log!r}: give RunFolder(name), or another SearchLog")
        self.log = SearchLog() if log is None else log
        self._fingerprints: dict[str, str] = {}  # of the data so far, by what they are of
        self._saved: dict[str, str] = {}  # those of the search that this one goes on with
        self._busy = False
        self._told = False
        display = SearchDisplay() if show_progress else None
        self._loop = WatchedLoop(self.log, display, outer.steps, self._number, self._keep)
        library = self._library
        problem = OuterProblem(self._data_at, library.learned_at, library.begin, library.another)
        super().__init__(problem, outer, self._loop)

    @property
    def best(self) -> OuterStep:
        """The outer step with the best validation accuracy; the loss decides a draw.

        Raises:
            ValueError: If none of them stayed finite, or none was taken.
        """
        return best(self.history)

    @property
    def spent(self) -> Spent:
        """What the outer steps taken have cost."""
        return self.progress.spent

    def run(self) -> Self:
        """Take all outer steps that are left; `history`, `best` and `ended` tell of them."""
        for _ in self:
            pass
        return self

    def __next__(self) -> OuterStep:
        if self.is_over:
            raise StopIteration
        if self._busy:
            raise RuntimeError("an outer step of this search is under way: it takes one at a time")
        self._busy = True
        try:
            with self._loop.watching():
                return self._taken()
        except StopIteration as error:  # of a log, data or the module: it would end the loop
            self._break_off(error)
            raise RuntimeError("StopIteration was raised within an outer step") from error
        except BaseException as error:
            self._break_off(error)
            raise
        finally:
            self._busy = False

    def _taken(self) -> OuterStep:
        """Take an outer step, and tell everybody."""
        self._tell()
        step = super().__next__()
        self.history.append(step)
        finite = [own for own in self.history if math.isfinite(own.validation_loss)]
        self.log.step(step, best(finite) if finite else None)
        self._keep()
        _warn(step)
        if step.ended is not None:
            self.log.end(step.ended)
        return step

    def _tell(self) -> None:
        if not self._told:
            self.log.begin(self._about())
            self._told = True

    def _break_off(self, error: BaseException) -> None:
        """Go back to where the log can go on from, and tell it; the error itself is what matters.

        A Ctrl-C between two steps was saved where it came. After any other error rows may be
        missing, or be of steps that begin anew: the newest checkpoint has those before it alone.
        """
        try:
            by_hand = isinstance(error, KeyboardInterrupt) and self._loop.at_rest
            if not by_hand and self._told and (found := self.log.latest()) is not None:
                self._go_on_from(*found)
            self.log.broken_off(error)
        except Exception as another:
            error.add_note(f"and the log failed: {type(another).__name__}: {another}")

    # Saving and going on

    def save(self, folder: str | Path) -> None:
        """Write where the search is: between two outer steps, or where it was broken off.

        Args:
            folder: For checkpoints of this search and nothing else; made if missing. The newest
                two are kept, whole at any moment.

        Raises:
            OSError: If it cannot be written.
        """
        CheckpointStore(Path(folder)).save(*self._state())

    def resume(self, folder: str | Path | None = None) -> Self:
        """Go on from where another search with the same arguments was saved.

        Args:
            folder: As `save` was given it; None for the newest checkpoint of the log.

        Returns:
            This search; as it was, if nothing was ever saved there.

        Raises:
            ValueError: If it is of another search (which argument differs is said), or damaged.
        """
        try:
            return self._resumed(folder)
        except BaseException:
            self._told = False
            self.log.close()  # it is another search's
            raise

    def _resumed(self, folder: str | Path | None) -> Self:
        if folder is None:
            self._tell()
        found = self.log.latest() if folder is None else CheckpointStore(Path(folder)).load()
        if found is None:
            if folder is not None:
                raise ValueError(f"{folder} holds no saved search: give what `save` was given")
            if type(self.log) is SearchLog:
                raise ValueError("nothing to go on from: give the folder of `save`, or a log")
            return self
        self._go_on_from(*found)
        self._saved = dict(self._fingerprints)
        if self.ended is not None and folder is None:
            self.log.end(self.ended)
        return self

    def _go_on_from(self, tensors: Mapping[str, Tensor], state: Mapping) -> None:
        """Be where a checkpoint was taken."""
        if state.get("format") != FORMAT:
            raise ValueError(f"a search of format {state.get('format')}: this reads {FORMAT}")
        # One trajectory was all there was in earlier versions.
        _refuse_another(
            {"trajectories": 1, "descent": "signs", **state["given"]}, self._library.given
        )
        self.history = [step_from(kept) for kept in state["history"]]
        self._fingerprints = dict(state["fingerprints"])
        self._library.options = options_from(state["options"])
        self._loop.spent = state["seconds"]
        under_way = None
        if state["run"] is not None:
            own = {n.removeprefix(RUN): it for n, it in tensors.items() if n.startswith(RUN)}
            under_way = own, state["run"]
        random_states = {n: it for n, it in tensors.items() if not n.startswith(RUN)}
        progress, ended = progress_from(state["progress"]), state["ended"]
        if ended == "" and progress.number < self.options.steps:
            ended = None  # more outer steps than before are asked for
        self.go_to(progress, ended, random_states, under_way)

    def goes_on_after(self, history: Sequence[OuterStep]) -> Self:
        """Go on after outer steps that another search with the same arguments has taken.

        Args:
            history: Its own, without the first ones missing.
        """
        self.history = list(history)
        if self.history:
            self.progress = self.history[-1].after
            self.ended = "" if self.progress.number >= self.options.steps else None
        return self

    def _number(self) -> int:
        return self.progress.number

    def _keep(self, inner: InnerRun | None = None) -> None:
        """Hand the log a checkpoint."""
        if type(self.log).checkpoint is not SearchLog.checkpoint:
            self.log.checkpoint(*self._state(inner))

    def _state(self, inner: InnerRun | None = None) -> tuple[dict[str, Tensor], dict]:
        if inner is None:
            snapshot, generators = self.under_way(), self.random_state
        else:
            snapshot, generators = inner.snapshot(), random_state()
        tensors, run = ({}, None) if snapshot is None else snapshot
        state = {
            "format": FORMAT,
            "given": self._library.given,
            "progress": progress_as_dict(self.progress),
            "history": [step_as_dict(step) for step in self.history],
            "ended": self.ended,
            "fingerprints": self._fingerprints,
            "options": options_as_dict(self._library.options),
            "seconds": 0.0 if run is None else self._loop.spent,
            "run": run,
        }
        named = {f"{RUN}{name}": own for name, own in tensors.items()}
        return {**named, **generators}, json.loads(json.dumps(state))

    def _data_at(self, number: int) -> OuterData:
        """The data of an outer step, the same as before if it was begun before."""
        data = self._library.data_at(number)
        for name, hashed in self._library.fingerprints(data, number).items():
            if name in self._fingerprints and name not in self._saved:
                continue  # of this search itself
            found = self._fingerprints[name] = hashed()
            if self._saved.get(name, found) != found:
                raise ValueError(
                    f"{name} changed since the search was saved: give the same data in the same "
                    "order (a loader that shuffles needs a generator with a seed)"
                )
            self._saved.pop(name, None)  # compared
        return data

    def _about(self) -> SearchAbout:
        library, options = self._library, self.options
        return SearchAbout(
            type(library.model.module).__qualname__,
            len(library.theta),
            str(library.theta.device),
            tuple(each.name for each in library.optimizer.hyperparameters),
            options.steps,
            options.epochs,
        )


def best(history: Sequence[OuterStep], by: str = "accuracy") -> OuterStep:
    """Return the outer step with the best validation accuracy; the loss decides a draw.

    Args:
        history: Outer steps, as of `Search.history`, `learn` or `learn_schedule`.
        by: `accuracy`; or `loss`, which tells more of few validation examples.

    Returns:
        One of them; its `schedule` makes the optimiser and the scheduler of a training loop, and
        `schedule.save(path)` keeps it for another script.

    Raises:
        ValueError: If none of them stayed finite.
    """
    found = max(
        history,
        key=lambda step: selection_key(step.validation_accuracy, step.validation_loss, by),
        default=None,
    )
    if found is None:
        raise ValueError("no outer step was taken yet: there is no best one")
    if not math.isfinite(found.validation_loss):
        raise ValueError("no outer step has a finite validation loss: use smaller first moves")
    return found


def _refuse_another(kept: Mapping, given: Mapping) -> None:
    """Refuse to go on with other arguments."""
    for name, value in given.items():
        if kept.get(name) != value:
            raise ValueError(
                f"this search differs from the saved one in {name} "
                f"(saved: {_short(kept.get(name))}; given: {_short(value)}): give the same"
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _warn(step: OuterStep) -> None:
    """Say what was not a finite number: such a value is not learned from."""
    texts = list(step.complaints) if step.diverged_step is None else ["training diverged"]
    if step.doubts is not None:
        warnings.warn(f"outer step {step.number}: {step.doubts}", RuntimeWarning, stacklevel=5)
    if texts:
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        warnings.warn(f"outer step {step.number}: {texts[0]}{more}", RuntimeWarning, stacklevel=5)


def _outer_options(
    epochs: int,
    outer_steps: int,
    first_horizons: Sequence[int],
    tolerance: float,
    patience: int | None,
    budget: str | None,
    sign_agreement: int,
    trajectories: int,
    descent: str,
) -> OuterOptions:
    """How the outer loop goes, or what is wrong with it."""
    if epochs < 1 or outer_steps < 1:
        raise ValueError(f"{epochs=}, {outer_steps=}: both must be at least 1")
    if patience is not None and patience < 1:
        raise ValueError(f"{patience=}: must be at least 1; None never stops early")
    if any(not isinstance(horizon, int) or horizon < 1 for horizon in first_horizons):
        raise ValueError(f"first_horizons={first_horizons}: epochs are whole numbers from 1 on")
    if sign_agreement < 0:
        raise ValueError(f"{sign_agreement=}: must be 0 or more trajectories")
    limit = None if budget is None else Budget.parse(budget)
    return OuterOptions(
        *(outer_steps, epochs, first_horizons, tolerance, patience, limit, sign_agreement),
        trajectories=trajectories,
        descent=descent,
    )
