"""A search that is held: broken off anywhere, saved, gone on with, and always the same bits."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hypergrad import (
    ForwardOptions,
    Hyperparameter,
    InnerOptimizer,
    OuterStep,
    ReverseOptions,
    Search,
    SearchLog,
    Windows,
    sgd,
    supervised,
)
from hypergrad.api.search_log import InnerRow, SearchAbout
from hypergrad.data import load
from hypergrad.data.sources import TensorBatches

HORIZON = 10  # inner steps of an outer step
OPTIONS = {
    "forward": ForwardOptions(),
    "truncated": ForwardOptions(clip_products=1.0, truncation=0.2),
    "reverse": ReverseOptions(),
    "few states": ReverseOptions(memory_gb=5e-4),
}


def images(start: int, stop: int) -> tuple[Tensor, Tensor]:
    train = load("digits").train
    return train.images[start:stop].flatten(1), train.labels[start:stop]


def network(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Dropout(dropout), nn.Linear(12, 10))


def optimizer(windows: int = 2) -> InnerOptimizer:
    rate = Hyperparameter("learning_rate", Windows(windows), 0.02, 0.5, "log")
    return InnerOptimizer(sgd(), (rate, Hyperparameter("momentum", 1, 0.5, 0.1, high=0.99)))


def search(dropout: float = 0.0, **changed: object) -> Search:
    given = {
        "module": network(dropout),
        "objective": supervised(),
        "batches": TensorBatches(images(0, 160), 32, (0, "search")),
        "validation": [images(1000, 1200)],
        "epochs": 2,
        "outer_steps": 3,
        "optimizer": optimizer(),
        "options": ForwardOptions(),
        **changed,
    }
    torch.manual_seed(2)  # what dropout draws from
    return Search(**given)  # type: ignore[arg-type]


def nesterov() -> InnerOptimizer:
    return InnerOptimizer(sgd(nesterov=True), optimizer().hyperparameters)


class Stop(Exception):
    """Whatever a user's own code raises."""


class Breaking(SearchLog):
    """Raises at one look at an inner run, and counts the looks."""

    rows_per_epoch = 5  # every step

    def __init__(self, at: int | None) -> None:
        self.at, self.looks = at, 0
        self.rows: list[InnerRow] = []

    def row(self, row: InnerRow) -> None:
        self.rows.append(row)
        self.looks += 1
        if self.looks - 1 == self.at:
            raise Stop


# Held


def test_it_is_the_outer_loop_step_by_step() -> None:
    held, run = search(), search().run()
    assert list(held) == run.history == held.history
    assert [step.number for step in run.history] == [0, 1, 2]
    assert run.ended == held.ended == ""
    assert held.best == max(held.history, key=lambda step: step.validation_accuracy)
    assert held.spent.gradients == 3 * HORIZON
    assert list(held) == []


def test_it_goes_on_where_the_loop_was_left() -> None:
    whole, held = search().run(), search()
    for step in held:
        if step.number == 0:
            break
    assert held.ended is None
    assert [step.number for step in held] == [1, 2]
    assert held.history == whole.history


def test_it_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    search().run()
    assert capsys.readouterr() == ("", "")


def test_progress_is_shown_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console

    from hypergrad.api import search_display

    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80)
    monkeypatch.setattr(search_display, "Console", lambda stderr: console)
    search(show_progress=True, outer_steps=2).run()
    assert "outer step 1/2" in text.getvalue()
    assert f"step {HORIZON}/{HORIZON}" in text.getvalue()


# Broken off


@pytest.mark.parametrize("at", range(0, 3 * HORIZON, 4))
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_an_error_in_a_log_leaves_it_between_two_steps(at: int, dropout: float) -> None:
    whole, held = search(dropout).run(), search(dropout, log=Breaking(at))
    with pytest.raises(Stop):
        held.run()
    assert held.history == whole.history[: at // HORIZON]
    assert held.run().history == whole.history
    assert [row.step for row in held.log.rows] == [*range(1, HORIZON + 1)] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("at", [0, HORIZON - 1, HORIZON, HORIZON + 3, 3 * HORIZON - 1])
def test_it_is_saved_where_it_was_broken_off_and_goes_on_elsewhere(
    kind: str, at: int, tmp_path: Path
) -> None:
    options = OPTIONS[kind]
    whole = search(options=options).run()
    held = search(options=options, log=Breaking(at))
    with pytest.raises(Stop):
        held.run()
    held.save(tmp_path / "saved")
    torch.rand(3)  # whatever else went on
    again = search(options=options).resume(tmp_path / "saved")
    torch.rand(5)
    assert again.history == whole.history[: at // HORIZON]
    assert again.run().history == whole.history
    assert again.spent._replace(seconds=0) == whole.spent._replace(seconds=0)
    assert again.best.schedule.origin == whole.best.schedule.origin


@pytest.mark.parametrize("at", [HORIZON, HORIZON + 3, 3 * HORIZON - 1])
def test_averages_over_outer_steps_are_saved_with_it(at: int, tmp_path: Path) -> None:
    whole = search(descent="averaged").run()
    assert whole.history[2].schedule != search().run().history[2].schedule
    held = search(descent="averaged", log=Breaking(at))
    with pytest.raises(Stop):
        held.run()
    held.save(tmp_path / "saved")
    assert search(descent="averaged").resume(tmp_path / "saved").run().history == whole.history
    with pytest.raises(ValueError, match="descent"):
        search().resume(tmp_path / "saved")


def test_another_descent_is_refused() -> None:
    with pytest.raises(ValueError, match="descent='steepest': use signs or averaged"):
        search(descent="steepest")


def test_what_dropout_draws_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, held = search(0.4).run(), search(0.4, log=Breaking(HORIZON + 4))
    with pytest.raises(Stop):
        held.run()
    held.save(tmp_path)
    again = search(0.4)
    torch.rand(7)
    assert again.resume(tmp_path).run().history == whole.history


@pytest.mark.parametrize("calls", [1, 4, 9, 13, 17])
def test_an_error_within_an_inner_step_begins_the_outer_step_anew(calls: int) -> None:
    left = [-1]  # calls until it breaks

    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(0.2)

        def forward(self, x: Tensor) -> Tensor:
            left[0] -= 1
            if left[0] == 0:
                raise Stop
            return self.net(x)

    whole = search(module=Fragile()).run()
    held = search(module=Fragile())
    next(held)
    left[0] = calls
    with pytest.raises(Stop):
        held.run()
    assert held.history == whole.history[: len(held.history)]
    assert len(held.history) in (1, 2)
    assert held.run().history == whole.history


class Interrupting(Breaking):
    """Presses Ctrl-C at one look."""

    def row(self, row: InnerRow) -> None:
        self.rows.append(row)
        self.looks += 1
        if self.looks - 1 == self.at:
            os.kill(os.getpid(), signal.SIGINT)
            self.after_the_signal = True


def test_ctrl_c_comes_between_two_steps() -> None:
    log = Interrupting(HORIZON + 2)
    whole, held = search(0.3).run(), search(0.3, log=log)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started pytest
    try:
        with pytest.raises(KeyboardInterrupt):
            held.run()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert log.after_the_signal
    assert len(log.rows) == HORIZON + 3
    assert held.run().history == whole.history
    assert len(log.rows) == 3 * HORIZON  # no step was taken twice


def test_somebody_elses_handler_stays_in_charge() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        search(log=Interrupting(3)).run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert came == [signal.SIGINT]


# Saved


class Keeping(SearchLog):
    """Keeps every checkpoint."""

    checkpoint_seconds = 0.0

    def __init__(self) -> None:
        self.kept: list[tuple[Mapping[str, Tensor], Mapping]] = []
        self.heard: list[object] = []

    def begin(self, about: SearchAbout) -> None:
        self.heard.append(about)

    def step(self, step: OuterStep, best: OuterStep | None) -> None:
        self.heard.append((step.number, best and best.number))

    def checkpoint(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
        self.kept.append(({name: own.clone() for name, own in tensors.items()}, state))

    def latest(self) -> tuple[Mapping[str, Tensor], Mapping] | None:
        return self.kept[-1] if self.kept else None

    def end(self, reason: str) -> None:
        self.heard.append(reason)


@pytest.mark.parametrize("kind", OPTIONS)
def test_every_checkpoint_of_a_log_leads_to_the_same_end(kind: str) -> None:
    log = Keeping()
    whole = search(options=OPTIONS[kind], log=log).run()
    there = 3 * HORIZON + 3
    assert len(log.kept) == (there if isinstance(OPTIONS[kind], ForwardOptions) else 2 * there - 3)
    assert whole.ended == ""
    for kept in log.kept[::3]:
        other = Keeping()
        other.kept.append(kept)
        assert search(options=OPTIONS[kind], log=other).resume().run().history == whole.history


def test_a_log_hears_of_everything_in_order() -> None:
    log = Keeping()
    held = search(log=log).run()
    about = log.heard[0]
    assert isinstance(about, SearchAbout)
    assert about.network == "Sequential"
    assert about.hyperparameters == ("learning_rate", "momentum")
    assert about.parameters == 12 * 65 + 10 * 13
    steps = [entry for entry in log.heard if isinstance(entry, tuple) and len(entry) == 2]
    assert [number for number, _ in steps] == [0, 1, 2]
    assert steps[-1] == (2, held.best.number)
    assert log.heard[-1] == ""


def test_a_finished_search_stays_finished(tmp_path: Path) -> None:
    whole = search(patience=1, outer_steps=20).run()
    assert whole.ended == "no better validation accuracy in 1 outer steps"
    whole.save(tmp_path)
    again = search(patience=1, outer_steps=20).resume(tmp_path)
    assert list(again) == []
    assert (again.ended, again.best) == (whole.ended, whole.best)


def test_more_outer_steps_can_be_asked_for_later(tmp_path: Path) -> None:
    whole = search(outer_steps=3).run()
    held = search(outer_steps=3)
    next(held)
    held.save(tmp_path)
    again = search(outer_steps=2).resume(tmp_path).run()
    assert again.history == whole.history[:2]


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"module": nn.Linear(64, 10)}, "the module's weights"),
        ({"epochs": 3}, "epochs"),
        ({"optimizer": optimizer(windows=3)}, "the hyperparameters"),
        ({"batches": TensorBatches(images(0, 160), 32, (1, "search"))}, "the first minibatch"),
        ({"validation": [images(1001, 1201)]}, "the validation data"),
        ({"validation": [images(1000, 1200), images(1200, 1250)]}, "the validation data"),
        (
            {"batches": TensorBatches(images(0, 192), 32, (0, "search"))},
            "the first minibatch|epoch",
        ),
        ({"optimizer": nesterov()}, "the rule"),
        ({"options": ForwardOptions(truncation=0.1)}, "the options"),
    ],
)
def test_another_search_does_not_go_on(
    changed: Mapping[str, object], names: str, tmp_path: Path
) -> None:
    held = search(log=Breaking(HORIZON + 1))
    with pytest.raises(Stop):
        held.run()
    held.save(tmp_path)
    with pytest.raises(ValueError, match=names):
        search(**changed).resume(tmp_path).run()  # type: ignore[arg-type]


def test_a_loader_that_shuffles_as_it_likes_does_not_go_on(tmp_path: Path) -> None:
    def loader(seed: int) -> DataLoader:
        draws = torch.Generator().manual_seed(seed)
        return DataLoader(TensorDataset(*images(0, 160)), 32, shuffle=True, generator=draws)

    whole = search(batches=loader(3)).run()
    held = search(batches=loader(3))
    next(held)
    held.save(tmp_path)
    assert search(batches=loader(3)).resume(tmp_path).run().history == whole.history
    with pytest.raises(ValueError, match="a loader that shuffles needs a generator with a seed"):
        search(batches=loader(4)).resume(tmp_path).run()


class Keeper(Breaking):
    """Breaks off once, and keeps its last checkpoint."""

    checkpoint_seconds = 0.0

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.kept: tuple[Mapping[str, Tensor], Mapping] | None = None

    def checkpoint(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
        self.kept = {name: own.clone() for name, own in tensors.items()}, state

    def latest(self) -> tuple[Mapping[str, Tensor], Mapping] | None:
        return self.kept


def test_what_breaks_off_in_the_middle_of_a_step_goes_on_from_the_last_checkpoint() -> None:
    log, armed = Keeper(-1), [True]

    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            if armed[0] and len(log.rows) == HORIZON + 5 and self.training:
                armed[0] = False
                raise Stop
            return self.net(x)

    held = search(module=Fragile(), log=log)
    with pytest.raises(Stop):
        held.run()
    assert log.kept is not None
    assert log.kept[1]["run"] is not None
    assert held.run().history == search(module=Fragile()).run().history
    assert len(log.rows) == 3 * HORIZON  # no step was taken twice


def test_a_stop_iteration_is_an_error() -> None:
    class Ending(SearchLog):
        def step(self, step: OuterStep, best: OuterStep | None) -> None:
            raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        search(log=Ending()).run()


def test_one_outer_step_at_a_time() -> None:
    class Greedy(SearchLog):
        rows_per_epoch = 5

        def row(self, row: InnerRow) -> None:
            next(self.search)

    log = Greedy()
    log.search = search(log=log)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="under way"):
        log.search.run()  # type: ignore[attr-defined]


def test_a_search_goes_further_than_it_was_asked_to_at_first(tmp_path: Path) -> None:
    whole = search(outer_steps=3).run()
    search(outer_steps=2).run().save(tmp_path)
    assert search(outer_steps=3).resume(tmp_path).run().history == whole.history


def test_nothing_saved_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no saved search"):
        search().resume(tmp_path / "nowhere")
    assert search(log=Keeping()).resume().history == []


def test_what_was_chosen_by_trying_is_kept(tmp_path: Path) -> None:
    options = ForwardOptions(strategy="auto")
    held = search(options=options, log=Breaking(3))
    with pytest.raises(Stop):
        held.run()
    chosen = held._library.options
    assert isinstance(chosen, ForwardOptions)
    assert chosen.strategy != "auto"
    held.save(tmp_path)
    assert search(options=options).resume(tmp_path)._library.options == chosen


# Killed

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_search import search, Breaking
from hypergrad import SearchLog
from hypergrad.runs.checkpoint import CheckpointStore

class Saving(SearchLog):
    checkpoint_seconds = 0.0
    rows_per_epoch = 5
    def __init__(self): self.store, self.rows = CheckpointStore({folder!r}), 0
    def checkpoint(self, tensors, state): self.store.save(tensors, state)
    def latest(self): return self.store.load()
    def row(self, row):
        self.rows += 1
        if self.rows == {kill}:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)

found = search({dropout}, log=Saving()).resume().run()
print(repr([(s.schedule, s.hypergradients, s.validation_loss) for s in found.history]))
"""


@pytest.mark.fault
@pytest.mark.parametrize("kill", [1, HORIZON, HORIZON + 6, 2 * HORIZON + 1])
def test_a_killed_process_is_gone_on_with_to_the_same_bits(kill: int, tmp_path: Path) -> None:
    def process(name: str, at: int) -> subprocess.CompletedProcess[str]:
        script = SCRIPT.format(
            tests=str(Path(__file__).parent), folder=str(tmp_path / name), kill=at, dropout=0.3
        )
        command = [sys.executable, "-c", textwrap.dedent(script)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    whole = process("whole", -1)
    assert whole.returncode == 0, whole.stderr
    assert process("killed", kill).returncode == -signal.SIGKILL
    again = process("killed", -1)
    assert again.returncode == 0, again.stderr
    assert again.stdout == whole.stdout != ""
