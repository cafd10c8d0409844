"""Several trajectories an outer step: what they say together, what moves, and how they go on."""

import contextlib
import gc
import math
import statistics
import weakref
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
import torch
from rich.console import Console
from scipy.stats import ttest_1samp
from sklearn.datasets import load_digits
from tiny import Crash, Watcher, everything, go, new_run, table, tiny_context
from torch import Tensor, nn

from hypergrad import Search, learn, learn_schedule
from hypergrad.config.checks import ConfigError
from hypergrad.config.composition import compose
from hypergrad.core.budget import Spent
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.losses import cross_entropy
from hypergrad.core.outer_optimizer import OuterState, sign_descent, sign_of, step
from hypergrad.core.schedule import Schedule
from hypergrad.core.seeding import seed_of
from hypergrad.data.sources import TensorBatches
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.drivers.context import make_model
from hypergrad.drivers.learn.driver import LearnDriver
from hypergrad.drivers.learn.inner_loop import RecordedInnerLoop
from hypergrad.reporting import run_report
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.runs.run_log import RunLog
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun
from hypergrad.training.outer_loop import Evaluation, OuterData, OuterProgress, OuterStep
from hypergrad.training.trajectories import (
    Trajectory,
    diverged,
    stands_still,
    t_statistics,
    together,
)

COUNT = 3
MODES = pytest.mark.parametrize("options", [ForwardOptions(), ReverseOptions()], ids=["f", "r"])
REVERSE = ["method.mode=reverse", "method.truncation=0", "method.clip_products=null"]


@cache
def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data, dtype=torch.float32) / 8 - 1, torch.tensor(data.target)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))


def seeded(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return network()


def batches(number: int) -> TensorBatches:
    images, labels = digits()
    return TensorBatches((images[:320], labels[:320]), 32, (number, "trajectories"))


def validation(number: int) -> list[tuple[Tensor, Tensor]]:
    images, labels = digits()
    first = 400 + number % 7 * 100
    return [(images[first : first + 200], labels[first : first + 200])]


OPTIMIZER = InnerOptimizer(hyperparameters=(Hyperparameter("learning_rate", 3, 0.05, 0.01),))


def learned(options: object, module: nn.Module | None = None, **given: object) -> list[OuterStep]:
    settings = {"epochs": 2, "optimizer": OPTIMIZER, "outer_steps": 1, "options": options, **given}
    own = seeded(5) if module is None else module
    return learn(own, cross_entropy, batches, validation, **settings)  # type: ignore[arg-type]


def told(steps: list[OuterStep]) -> list[str]:
    """Everything but times, with NaN equal to itself."""
    return [repr(replace(each, after=OuterProgress(each.after.number))) for each in steps]


def test_t_is_that_of_a_t_test() -> None:
    H = torch.tensor([[1.0, -2.0, 0.0, 3.0], [2.0, -1.0, 0.0, 3.0], [4.0, 2.0, 0.0, 3.0]]).double()
    m, t = t_statistics(H, torch.ones(3, 1, dtype=torch.float64))
    assert m.tolist() == H.mean(dim=0).tolist()
    wanted = ttest_1samp(H[:, :2].numpy(), 0.0).statistic
    assert t[:2].tolist() == pytest.approx(wanted.tolist(), rel=1e-12)
    assert t[2:].tolist() == [0.0, math.inf]


def one(
    *values: float, loss: float = 1.0, step: int = 9, lost: int = 0, growth: float | None = None
) -> Trajectory:
    seen = HypergradientDiagnostics(2.0, 0.5, None, lost, 3 if lost else None, growth)
    return Trajectory(
        Evaluation(loss, 0.5, None, 0.25),
        Spent(1.0, 10, 20, 1),
        step,
        values or None,
        (seen,) * len(values),
    )


def test_together_they_are_means_and_their_cost_is_a_sum() -> None:
    found = together([one(1.0, 1.0, loss=1.0, growth=0.1), one(3.0, -2.0, loss=2.0, lost=4)])
    assert found.values == (2.0, -0.5)
    assert found.seen == Evaluation(1.5, 0.5, None, 0.25)
    assert found.spent == Spent(2.0, 20, 40, 2)
    t = [seen.t_statistic for seen in found.diagnostics]
    assert t == pytest.approx([2.0, -1 / 3])
    assert stands_still(found.diagnostics) == (False, True)
    assert found.diagnostics[0][:6] == (2.0, 0.5, None, 4, 3, 0.1)


def test_a_hypergradient_that_one_of_them_lost_says_nothing() -> None:
    found = together([one(1.0, 1.0), one(1.0, math.nan), one(2.0, 1.0)])
    assert found.values is not None
    assert math.isnan(found.values[1])
    assert found.diagnostics[1].t_statistic is None
    assert stands_still(found.diagnostics) == (False, False)  # it moves nothing, and is said aloud


@pytest.mark.parametrize(("lost", "whole"), [(1, True), (2, False), (3, False)])
def test_one_that_diverged_spoils_the_score_and_half_of_them_the_step(
    lost: int, whole: bool
) -> None:
    own = [one(1.0), one(2.0), one(3.0), one(6.0)]
    own[:lost] = [one(loss=math.nan, step=k + 2) for k in range(lost)]
    found = together(own)
    assert math.isnan(found.seen.validation_loss or 0.0)
    assert found.values == ((11 / 3,) if whole else None)
    assert found.step == (9 if whole else 2)
    assert diverged(own) == f"{lost} of 4 trajectories diverged"
    assert Trajectory.from_dict(own[-1].as_dict()) == own[-1]


def test_what_does_not_stand_out_stays_and_is_no_flip() -> None:
    state = OuterState((1.0, 1.0), (0.5, 0.5), (-1, -1), (0.5, 0.5))
    after = step(state, [2.0, 2.0], still=(False, True))
    assert after == OuterState((0.75, 1.0), (0.25, 0.5), (1, -1), (-0.25, 0.0))
    lost = step(state, [math.nan, 2.0], still=(False, True))  # not as if none could be followed
    assert lost == sign_descent(state, [math.nan, 0.0])
    only = step(state, [math.nan, -2.0], still=(False, False))
    assert only.values == (1.0, 1.5)


@MODES
def test_an_outer_step_is_the_mean_of_trainings_with_weights_order_and_split_of_their_own(
    options: object,
) -> None:
    found = learned(options, trajectories=COUNT, outer_steps=2)
    alone = learned(options, outer_steps=1)
    numbers = [2**31 + seed_of("trajectory", 0, k) % 2**31 for k in range(1, COUNT)]
    for draw in numbers:
        alone += learn(
            seeded(draw),
            cross_entropy,
            lambda number, draw=draw: batches(draw),
            lambda number, draw=draw: validation(draw),
            epochs=2,
            optimizer=OPTIMIZER,
            outer_steps=1,
            options=options,  # type: ignore[arg-type]
        )
    first = found[0]
    columns = list(zip(*(each.hypergradients for each in alone), strict=True))
    assert first.hypergradients == pytest.approx([statistics.fmean(own) for own in columns])
    assert len(set(columns[0])) == COUNT
    t = [seen.t_statistic for seen in first.diagnostics]
    assert t == pytest.approx([ttest_1samp(own, 0.0).statistic for own in columns], rel=1e-5)
    losses = [each.validation_loss for each in alone]
    assert first.validation_loss == pytest.approx(statistics.fmean(losses))
    assert len(set(losses)) == COUNT
    assert first.gradients == COUNT * alone[0].gradients
    assert first.products == COUNT * alone[0].products
    assert first.after.spent.trials == COUNT
    assert found[1].after.spent.trials == 2 * COUNT
    # One trajectory is as ever.
    assert told(learned(options, trajectories=1)) == told(alone[:1])
    assert alone[0].diagnostics[0].t_statistic is None


def test_what_stands_out_moves_and_nothing_else() -> None:
    rate = Hyperparameter("learning_rate", 30, 1.0, 0.01)
    (found,) = learned(
        ReverseOptions(), trajectories=2, optimizer=InnerOptimizer(hyperparameters=(rate,)),
        epochs=3,
    )  # fmt: skip
    still = [abs(seen.t_statistic or 0.0) < 1 for seen in found.diagnostics]
    assert 0 < sum(still) < 30
    state = found.after.state
    assert state is not None
    wanted = [
        1.0 if stays else pytest.approx(1.0 - 0.01 * sign_of(h))
        for h, stays in zip(found.hypergradients, still, strict=True)
    ]
    assert list(state.values) == wanted


def test_a_function_makes_the_network_of_every_trajectory() -> None:
    made: list[int] = []

    def make() -> nn.Module:
        made.append(torch.initial_seed())
        return network()

    (found,) = learned(ForwardOptions(), make, trajectories=COUNT)  # type: ignore[arg-type]
    assert len(set(made)) == len(made) == COUNT
    assert found.after.spent.trials == COUNT


def test_where_all_diverge_half_of_the_move_is_taken_back_and_said() -> None:
    rate = Hyperparameter("learning_rate", 1, 0.1, 1e30)
    given = {"trajectories": 2, "optimizer": InnerOptimizer(hyperparameters=(rate,))}
    module = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    with pytest.warns(RuntimeWarning) as said:
        first, second = learned(ForwardOptions(), module, outer_steps=2, **given)
    assert [str(each.message) for each in said] == [
        "outer step 1: 2 of 2 trajectories diverged", "outer step 1: training diverged",
    ]  # fmt: skip
    assert (first.diverged_step, first.doubts) == (None, None)
    assert second.diverged_step == 10  # seen at the end of the first epoch
    assert second.after.state is not None
    assert second.after.state.values[0] == pytest.approx(0.5e30)
    assert not math.isfinite(second.validation_loss)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="trajectories=0: must be at least 1"):
        learned(ForwardOptions(), trajectories=0)
    with pytest.raises(ValueError, match="differ in more than rounding already"):
        learned(ForwardOptions(), trajectories=2, sign_agreement=1)
    with pytest.raises(ValueError, match="trajectories=2 differ in the order of their data"):
        learn(
            network(), cross_entropy, batches(0), validation(0), epochs=1, optimizer=OPTIMIZER,
            trajectories=2,
        )  # fmt: skip
    for override, text in (
        ("trust.sign_agreement=2", "give one of the two"),
        ("method=hd", "no outer steps here"),
        ("driver=improve", "a number of its own, improve.trajectories"),
    ):
        with pytest.raises(ConfigError, match=text):
            compose("from_zero", ["outer.trajectories=2", override])
    with pytest.raises(ConfigError, match="no outer steps here"):
        compose("baselines/digits", ["outer.trajectories=2"])


class Stop(Exception):
    """Stands for Ctrl-C of whoever watches."""


@MODES
def test_a_search_goes_on_within_a_trajectory(options: object, tmp_path: Path) -> None:
    def search() -> Search:
        return Search(
            seeded(5), cross_entropy, batches, validation, epochs=2, optimizer=OPTIMIZER,
            outer_steps=2, options=options, trajectories=COUNT,
        )  # type: ignore[arg-type] # fmt: skip

    whole = told(search().run().history)
    for at in (3, 25, 45, 61, 100):
        own, steps = search(), 0
        loop, after = own._loop, own._loop.after_step

        def stop(*given: object, at: int = at, after=after, **more: object) -> None:  # noqa: ANN001
            nonlocal steps
            steps += 1
            after(*given, **more)
            if steps == at:
                raise Stop

        loop.after_step = stop  # type: ignore[method-assign]
        with contextlib.suppress(Stop):
            own.run()
        assert steps == at
        own.save(tmp_path / str(at))
        again = search().resume(tmp_path / str(at))
        taken = steps
        steps = -(10**6)
        assert told(own.run().history) == whole  # in the same process
        counted, follow = 0, again._loop.after_step

        def count(*given: object, follow=follow, **more: object) -> None:  # noqa: ANN001
            nonlocal counted
            counted += 1
            follow(*given, **more)

        again._loop.after_step = count  # type: ignore[method-assign]
        assert told(again.run().history) == whole
        both = 20 if isinstance(options, ForwardOptions) else 40
        assert taken + counted == 2 * COUNT * both  # no step twice


def test_one_trajectory_is_let_go_before_the_next_begins() -> None:
    search = Search(
        seeded(5), cross_entropy, batches, validation, epochs=1, optimizer=OPTIMIZER,
        outer_steps=1, options=ReverseOptions(), trajectories=COUNT,
    )  # fmt: skip
    begin, begun = search.problem.begin, []

    def watched(data: OuterData, schedule: Schedule, number: int) -> ForwardRun | ReverseRun:
        gc.collect()
        assert not any(ref() for ref in begun)  # all states of a reverse run, for one
        inner = begin(data, schedule, number)
        begun.append(weakref.ref(inner))
        return inner

    search.problem = search.problem._replace(begin=watched)
    search.run()
    assert len(begun) == COUNT


def test_a_search_saved_before_there_were_trajectories_goes_on() -> None:
    def search(count: int) -> Search:
        return Search(
            seeded(5), cross_entropy, batches, validation, epochs=1, optimizer=OPTIMIZER,
            outer_steps=2, options=ForwardOptions(), trajectories=count,
        )  # fmt: skip

    own = search(1)
    next(own)
    tensors, state = own._state()
    del state["given"]["trajectories"]
    again = search(1)
    again._go_on_from(tensors, state)
    assert again.progress.number == 1
    with pytest.raises(ValueError, match=r"in trajectories \(saved: 1; given: 3"):
        search(3)._go_on_from(tensors, state)


def test_another_number_of_trajectories_is_another_search(tmp_path: Path) -> None:
    def search(count: int) -> Search:
        return Search(
            seeded(5), cross_entropy, batches, validation, epochs=1, optimizer=OPTIMIZER,
            outer_steps=2, options=ForwardOptions(), trajectories=count,
        )  # fmt: skip

    own = search(2)
    next(own)
    own.save(tmp_path)
    with pytest.raises(ValueError, match=r"differs from the saved one in trajectories \(saved: 2"):
        search(1).resume(tmp_path)


def test_a_classifier_is_learned_from_several_splits() -> None:
    images, labels = digits()
    (found,) = learn_schedule(
        seeded(1), images[:300], labels[:300], epochs=1, batch_size=30, outer_steps=1,
        trajectories=2,
    )  # fmt: skip
    assert found.after.spent.trials == 2


def test_trajectories_of_a_run_differ_in_weights_order_and_split(tmp_path: Path) -> None:
    context, text = tiny_context("outer.trajectories=3", "repeats=1")
    config, data, layout = context.config, context.data, context.plan
    log = RunLog(new_run(context, text, tmp_path), [])
    loop = RecordedInnerLoop(config, data, layout, log, Watcher(), Interrupt())
    driver = LearnDriver(config, data, lambda seed: make_model(config, data, seed), layout, loop)
    driver._prepare_model()
    drawn = [driver._outer_data(0), *(driver._another(0, k) for k in (1, 2))]
    drawn += [driver._another(1, 1)]
    for own in (
        [each.problem.theta for each in drawn],
        [each.problem.minibatches.at(0)[0] for each in drawn],
        [each.batches[0][0] for each in drawn],
    ):
        assert not any(torch.equal(a, b) for a, b in combinations(own, 2))
    again = driver._another(0, 1).problem
    assert torch.equal(again.theta, drawn[1].problem.theta)
    assert torch.equal(again.minibatches.at(3)[0], drawn[1].problem.minibatches.at(3)[0])


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_run_writes_it_and_resumes_to_the_same_files(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["outer.trajectories=3", "repeats=1", "outer.steps=3", "hd.enabled=false"]
    own += ["baseline.enabled=false"]
    setting = tiny_context(*own, "outer.confirm=2", *(REVERSE if mode == "reverse" else []))
    whole = new_run(*setting, tmp_path / "whole")
    watcher = Watcher()
    go(setting[0], whole, watcher)
    assert watcher.costs == sorted(watcher.costs)
    assert watcher.costs[-1] == pytest.approx(setting[0].plan.cost)
    outer = table(whole, "outer")
    assert outer["t_statistic"].notna().all()
    moved = outer["sign"].ne(0)
    assert (outer["t_statistic"].abs().ge(1) & outer["hypergradient"].ne(0)).equals(moved)
    (spent,) = whole.read_summary()["spent"]
    assert spent["trials"] == 9
    inner = table(whole, "inner")
    assert not inner.duplicated(["method", "outer_step", "step"]).any()

    for at in (13, 40, 70):  # in each trajectory, there and back
        run, interrupt = new_run(*setting, tmp_path / f"at-{at}"), Interrupt()

        def stop(steps: int, at: int = at, interrupt: Interrupt = interrupt) -> None:
            if steps == at and at == 40:  # as if it were killed: nothing is saved on the way out
                raise Crash
            if steps == at:
                interrupt.requested = "SIGTERM"

        with contextlib.suppress(Interrupted, Crash):
            go(setting[0], run, Watcher(stop), interrupt)
        again = Watcher()
        go(setting[0], run, again, resume=True)
        assert everything(run) == everything(whole)
        if interrupt.requested:
            assert at + again.steps == watcher.steps  # no trajectory twice
        else:
            assert watcher.steps - at <= again.steps < watcher.steps

    monkeypatch.setattr(run_report, "Console", lambda: Console(width=80))
    run_report.print_diagnostics(whole.path)
    printed = capsys.readouterr().out
    assert "|t|" in printed
    assert "signal / noise" not in printed
    assert max(map(len, printed.splitlines())) <= 80
