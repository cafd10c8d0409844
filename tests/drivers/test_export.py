"""A run's schedule as a file: an ordinary script repeats the run's own retraining with it."""

import copy
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch.nn.functional as F
from commands import Call
from small import lead, setting
from small import new_run as new_search
from tiny import OVERRIDES, go, table
from torch import Tensor, nn

from hypergrad.config.composition import compose
from hypergrad.core.schedule import Schedule
from hypergrad.drivers.batching import minibatches_of
from hypergrad.drivers.context import RunContext, make_model, prepare
from hypergrad.drivers.export import exported
from hypergrad.drivers.inner_optimizer import inner_optimizer
from hypergrad.runs.directory import RunDirectory
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun, steps

SMALL = [
    "repeats=2",
    "epochs=3",
    "data.train_size=200",
    "data.test_size=60",
    "model.options.hidden=8",
    "outer.steps=3",
    "outer.first_horizons=[]",
    "hd.enabled=false",
    "selftest=off",
]
RUNS = {
    # Nesterov's momentum, and a clip that bites at every step.
    "from_zero": ["optimizer=nesterov", "method.clip_gradient=0.01"],
    "adamw_groups": ["method.clip_gradient=null", "method.clip_norm=0.3"],
}


class Learned(NamedTuple):
    context: RunContext
    run: RunDirectory


@pytest.fixture(scope="module", params=[*RUNS])
def learned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    return learn(request.param, "float64", tmp_path_factory.mktemp(request.param))


def learn(experiment: str, precision: str, outputs: Path) -> Learned:
    config, text = compose(experiment, [*SMALL, *RUNS[experiment], f"precision={precision}"])
    context, run = prepare(config), RunDirectory.create(outputs, config.name)
    run.write_config(text, SMALL)
    go(context, run)
    return Learned(context, run)


def retrained(learned: Learned, schedule: Schedule, seed: int) -> ScheduledRun:
    """The run's own retraining, taken again for its weights."""
    config, data = learned.context.config, learned.context.data
    model = make_model(config, data, seed)
    minibatches = minibatches_of(config, data.train, seed, "retrain", 0)
    problem = InnerProblem.over_epochs(
        model, model.theta(), minibatches, config.epochs, inner_optimizer(config)
    )
    inner = ScheduledRun(problem, schedule)
    for _ in steps(inner):
        pass
    return inner


def plain_loop(learned: Learned, schedule: Schedule, seed: int) -> Tensor:
    """What a person writes, with the run's network and minibatches."""
    config, data = learned.context.config, learned.context.data
    module: nn.Module = copy.deepcopy(make_model(config, data, seed).module)
    minibatches = minibatches_of(config, data.train, seed, "retrain", 0)
    horizon = config.epochs * minibatches.steps_per_epoch
    optimizer = schedule.optimizer(module)
    scheduler = schedule.scheduler(optimizer, horizon)
    for step in range(horizon):
        x, y = minibatches.at(step)
        optimizer.zero_grad()
        F.cross_entropy(module(x), y).backward()
        schedule.clip(module.parameters())
        optimizer.step()
        scheduler.step()
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def test_a_plain_loop_repeats_the_retraining_of_the_run(learned: Learned, tmp_path: Path) -> None:
    """To rounding: torch adds its products in another order. A wrong term shows at 1e-4."""
    for seed in (0, 1):
        exported(learned.run, seed).save(tmp_path / "kept.json")
        schedule = Schedule.load(tmp_path / "kept.json")
        own = retrained(learned, schedule, seed)
        found = plain_loop(learned, schedule, seed)
        assert float((found - own.state.theta).abs().max()) < 1e-12
        start = own.problem.theta
        assert float((found - start).abs().max()) > 1e-2  # it was a training
        # It is the run's: what its own file says of it.
        rows = table(learned.run, "inner").query(f"seed == {seed} and method == 'ours_retrained'")
        data = learned.context.data.test
        accuracy = own.problem.model.evaluate(
            own.state.theta, own.state.buffers, [(data.images, data.labels)]
        )[1]
        assert rows["test_accuracy"].iloc[-1] == pytest.approx(accuracy, abs=1e-12)
        assert schedule.origin is not None
        assert schedule.origin.retrained_test_accuracy == rows["test_accuracy"].iloc[-1]


@pytest.mark.parametrize("experiment", RUNS)
def test_in_single_precision_it_repeats_to_its_rounding(experiment: str, tmp_path: Path) -> None:
    """Over 18 steps; measured: 3e-8 (SGD) and 9e-8 (AdamW), of weights around 0.1."""
    learned = learn(experiment, "float32", tmp_path)
    schedule = exported(learned.run, 0)
    own = retrained(learned, schedule, 0)
    difference = float((plain_loop(learned, schedule, 0) - own.state.theta).abs().max())
    assert difference < 2e-6


def test_without_the_clip_of_the_run_it_is_another_training(learned: Learned) -> None:
    """The clip bites: what is compared above depends on it."""
    schedule = exported(learned.run, 0)
    own = retrained(learned, schedule, 0)
    schedule.clip = lambda parameters: None  # type: ignore[method-assign]
    assert float((plain_loop(learned, schedule, 0) - own.state.theta).abs().max()) > 1e-4


def test_a_file_says_where_it_comes_from(learned: Learned) -> None:
    entry = learned.run.read_json("schedule.json")["schedules"][1]
    origin = exported(learned.run, 1).origin
    assert origin is not None
    assert (origin.seed, origin.seeds, origin.outer_step) == (1, (0, 1), entry["outer_step"])
    assert origin.validation_loss == entry["validation_loss"]
    assert origin.validation_accuracy == entry["validation_accuracy"]
    assert (origin.steps, origin.epochs, origin.batch_size) == (3 * (190 // 32), 3, 32)
    assert (origin.data, origin.network) == ("digits", "mlp")
    assert origin.network_options is not None
    assert json.loads(origin.network_options)["hidden"] == 8


def test_the_best_seed_is_exported_unless_one_is_named(learned: Learned) -> None:
    entries = learned.run.read_json("schedule.json")["schedules"]
    best = max(entries, key=lambda entry: entry["validation_accuracy"])["seed"]
    assert exported(learned.run) == exported(learned.run, best)
    with pytest.raises(ValueError, match="no schedule of seed 7: there are 0, 1"):
        exported(learned.run, 7)


# The command


@pytest.fixture
def whole(call: Call, tmp_path: Path) -> RunDirectory:
    """A run as it is typed."""
    done = call("run", "from_zero", *OVERRIDES, "outer.steps=2", "hd.enabled=false")
    assert done.code == 0
    (path,) = tmp_path.glob("outputs/from_zero/*")
    return RunDirectory.open(path)


def test_the_command_writes_a_file_or_prints_it(
    call: Call, whole: RunDirectory, tmp_path: Path
) -> None:
    printed = call("export", whole.path, "--seed", 0)
    assert printed.code == 0
    written = call("export", whole.path, "--seed", 0, "-o", tmp_path / "kept.json")
    assert written.out.strip() == str(tmp_path / "kept.json")
    assert (tmp_path / "kept.json").read_text() == printed.out
    schedule = Schedule.load(tmp_path / "kept.json")
    provenance = whole.read_json("provenance.json")
    assert schedule.origin is not None
    assert schedule.origin.data_fingerprint == provenance["data_fingerprint"]
    assert schedule.origin.commit == provenance["git_commit"]
    assert json.loads(printed.out)["learned_for"]["clip"] == {"kind": "elementwise", "limit": 3.0}

    nowhere = call("export", whole.path, "-o", tmp_path / "no" / "kept.json")
    assert (nowhere.code, nowhere.err.count("\n")) == (2, 1)
    assert call("export", tmp_path).err.startswith("hypergrad: ")
    none = call("export", whole.path, "--seed", 5)
    assert (none.code, none.err.count("\n")) == (2, 1)


def test_a_run_of_an_earlier_version_is_exported_as_its_configuration_says(
    learned: Learned, tmp_path: Path
) -> None:
    path = tmp_path / "old"
    shutil.copytree(learned.run.path, path)
    old = RunDirectory(path)
    kept = old.read_json("schedule.json")
    for entry in kept["schedules"]:
        for name in ("groups", "clip", "of_loss", "fixed"):
            del entry["learned_for"][name]
    old.write_json("schedule.json", kept)
    if learned.context.config.name == "adamw_groups":
        with pytest.raises(ValueError, match="did not write down the parameters of each group"):
            exported(old, 0)
        return
    schedule, known = exported(old, 0), exported(learned.run, 0)
    assert schedule == known
    own = retrained(learned, known, 0)
    assert float((plain_loop(learned, schedule, 0) - own.state.theta).abs().max()) < 1e-12


def test_what_a_search_has_chosen_is_exported_too(tmp_path: Path) -> None:
    given, text = setting("repeats=1")
    run = new_search(given, text, tmp_path)
    lead(given, run)
    schedule = exported(run)
    final = table(run, "finals").iloc[0]
    assert schedule.origin is not None
    assert schedule.origin.steps == final["steps"]
    assert schedule.origin.retrained_test_accuracy == final["test_accuracy"]
    assert schedule.learned_for is not None
    assert schedule.learned_for.kind == "SGD"
    schedule.save(tmp_path / "kept.json")
    assert Schedule.load(tmp_path / "kept.json") == schedule


def test_a_run_made_of_runs_is_refused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_json("members.json", {"members": [{"name": "0_seed=0"}, {"name": "1_seed=1"}]})
    with pytest.raises(ValueError, match="is made of runs: export one of them, as .*/0_seed=0"):
        exported(run)


def test_a_run_that_has_learned_nothing_yet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no schedule yet"):
        exported(RunDirectory(tmp_path))
