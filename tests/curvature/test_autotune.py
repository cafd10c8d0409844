"""Choosing how Hessian products are computed: what fits, what is fastest, and that it is kept."""

from pathlib import Path

import pytest
import torch
from problems import digits_problem
from tiny import Watcher, go, new_run, table, tiny_context
from torch import nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.curvature import autotune as strategy
from hypergrad.curvature.autotune import check_strategy, choose_strategy
from hypergrad.differentiation.forward import hypergradients
from hypergrad.differentiation.options import ForwardOptions, settle
from hypergrad.runs.interrupt import Interrupt, Interrupted


def timed(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Let strategies take as long as said, in the order in which they are tried."""
    order = [name for name in strategy.PREFERENCE if name in seconds]
    calls = iter(order * 10)
    monkeypatch.setattr(strategy, "_seconds", lambda call, device: seconds[next(calls)])


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"stacked": 1.0, "fused": 1.5, "vmap": 2.0, "loop": 2.9}, "stacked"),
        ({"stacked": 1.1, "fused": 1.1, "vmap": 1.0, "loop": 1.05}, "stacked"),  # within the margin
        ({"stacked": 2.0, "fused": 1.5, "vmap": 1.1, "loop": 1.0}, "vmap"),
        ({"stacked": 2.0, "fused": 2.0, "vmap": 2.0, "loop": 1.0}, "loop"),
    ],
)
def test_the_fastest_wins_by_a_margin(
    seconds: dict[str, float], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = digits_problem("mlp", hidden=4)
    timed(monkeypatch, **seconds)
    choice = choose_strategy(problem.model, problem.theta, problem.batch_at(0), 3)
    assert choice.strategy == expected
    assert choice.seconds == seconds


@pytest.mark.parametrize(
    ("module", "fitting"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), ["stacked", "fused", "vmap", "loop"]),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.GELU()), ["fused", "vmap", "loop"]),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.1)), ["fused", "loop"]),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)),
            ["fused", "vmap", "loop"],
        ),
    ],
    ids=["a chain", "another network", "dropout", "normalisation"],
)
def test_only_what_fits_is_tried(module: nn.Module, fitting: list[str]) -> None:
    problem, model = digits_problem("mlp", dtype=torch.float32), FlatModel(module)
    state = torch.get_rng_state()
    choice = choose_strategy(model, model.theta(), problem.batch_at(0), 2)
    assert list(choice.seconds) == fitting
    assert all(seconds > 0 for seconds in choice.seconds.values())
    assert torch.equal(torch.get_rng_state(), state)


class Addressed(nn.Linear):
    """Asks for an address, which tensors within `vmap` do not have."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        assert self.weight.data_ptr()
        return torch.sin(super().forward(input))


def test_what_a_strategy_cannot_do_is_skipped_and_said() -> None:
    problem, model = digits_problem("mlp", dtype=torch.float32), FlatModel(Addressed(64, 10))
    x, y = problem.batch_at(0)
    choice = choose_strategy(model, model.theta(), (x.flatten(1), y), 2)
    assert list(choice.seconds) == ["fused", "loop"]
    assert list(choice.skipped) == ["vmap"]
    assert choice.skipped["vmap"].startswith("not batched by vmap: Cannot access data pointer")
    assert "; vmap skipped: not batched" in str(choice)


def test_the_library_warns_of_what_it_skips() -> None:
    problem, model = digits_problem("mlp", dtype=torch.float32), FlatModel(Addressed(64, 10))
    x, y = problem.batch_at(0)
    asked = ForwardOptions(strategy="auto")
    with pytest.warns(UserWarning, match="vmap skipped: not batched by vmap"):
        chosen = settle(model, model.theta(), (x.flatten(1), y), 2, asked)
    assert chosen.strategy in ("fused", "loop")


class Mistaken(nn.Linear):
    """A mistake of its author that shows within `vmap` alone."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if torch._C._functorch.is_functorch_wrapped_tensor(self.weight):
            raise RuntimeError("shape '[3]' is invalid for input of size 4")
        return torch.sin(super().forward(input))


def test_a_mistake_is_raised_and_not_skipped() -> None:
    problem, model = digits_problem("mlp", dtype=torch.float32), FlatModel(Mistaken(64, 10))
    x, y = problem.batch_at(0)
    with pytest.raises(RuntimeError, match="invalid for input of size 4"):
        choose_strategy(model, model.theta(), (x.flatten(1), y), 2)


def test_large_networks_are_not_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = digits_problem("mlp", hidden=4)
    monkeypatch.setattr(strategy, "BATCHED_LIMIT", 1000)
    choice = choose_strategy(problem.model, problem.theta, problem.batch_at(0), 3)
    assert list(choice.seconds) == ["fused", "loop"]


def test_stacked_is_refused_before_a_run() -> None:
    problem = digits_problem("wrn", depth=10)
    with pytest.raises(ValueError, match="through .*batch_norm"):
        check_strategy(problem.model, "stacked", problem.batch_at(0))
    check_strategy(problem.model, "auto", problem.batch_at(0))


def test_auto_is_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = digits_problem("mlp", hidden=4)
    given = (
        problem.model,
        problem.theta,
        problem.batch_at,
        problem.validation,
        sgd_schedule((0.1,), (0.5,), (0.0,)),
        4,
    )
    timed(monkeypatch, stacked=2.0, fused=2.0, vmap=2.0, loop=1.0)
    found = hypergradients(*given, ForwardOptions(strategy="auto"))
    assert found.values == hypergradients(*given, ForwardOptions(strategy="loop")).values


def test_a_run_says_what_it_chose_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, text = tiny_context("hvp.strategy=auto", "repeats=1", "hd.enabled=false")
    watcher, run = Watcher(), new_run(context, text, tmp_path)
    timed(monkeypatch, stacked=2.0, fused=2.0, vmap=2.0, loop=1.0)
    interrupt = Interrupt()

    def stop(steps: int) -> None:
        if steps == 20:
            interrupt.requested = "SIGTERM"

    watcher._on_step = stop
    with pytest.raises(Interrupted):
        go(context, run, watcher, interrupt)
    assert watcher.notes[1].startswith("start-up test: repeats, as torch.optim trains, products")
    assert watcher.notes[:1] == [
        "Hessian products by loop (stacked 2 s, fused 2 s, vmap 2 s, loop 1 s); "
        "hvp.strategy=loop skips the trial"
    ]
    assert run.read_json("summary.json")["hvp"] == {
        "strategy": "loop",
        "seconds": {"stacked": 2.0, "fused": 2.0, "vmap": 2.0, "loop": 1.0},
        "skipped": {},
    }
    timed(monkeypatch, stacked=1.0, fused=2.0, vmap=2.0, loop=2.0)  # it would choose otherwise now
    watcher = Watcher()
    go(context, run, watcher, resume=True)
    assert [note.partition(":")[0] for note in watcher.notes] == ["start-up test"]
    named, text = tiny_context("hvp.strategy=loop", "repeats=1", "hd.enabled=false")
    other = new_run(named, text, tmp_path)
    go(named, other)
    assert table(run, "outer").equals(table(other, "outer"))
