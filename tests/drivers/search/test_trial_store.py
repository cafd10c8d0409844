"""TrialStore of trials and claims on them; which trials a budget pays for."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from places import ROOT, TESTS
from small import SMALL

from hypergrad.config.composition import compose
from hypergrad.core.budget import Spent
from hypergrad.drivers.search.candidates import Candidate
from hypergrad.drivers.search.trial import Trial, TrialResult
from hypergrad.drivers.search.trial_queue import TrialQueue, open_trials
from hypergrad.drivers.search.trial_store import COLUMNS, TrialStore, name_of, row_of
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.ground import Ground, put_down
from hypergrad.runs.provenance import record_session
from hypergrad.runs.records import read_record

TRIAL = Trial(Candidate(3, "multistep", (0.1,), (0.9,), (5e-4,), 0.2, (0.3,)), seed=2)
FOUND = TrialResult(0.5, math.nan, None, math.inf, True, 7, 12, Spent(1.5, 12, 0, 1), 4, None)


def test_a_record_reads_back_as_it_was(tmp_path: Path) -> None:
    TrialStore(tmp_path).write(TRIAL, FOUND)
    again = TrialStore(tmp_path)
    assert again.get(TRIAL) is None  # not read yet
    again.refresh()
    found = again.get(TRIAL)
    assert repr(found) == repr(FOUND)  # NaN is not equal to itself
    (path,) = (tmp_path / "trials").iterdir()
    record = json.loads(path.read_text(), parse_constant=pytest.fail)  # no NaN: any reader can
    assert (record["seed"], record["factor"], record["learning_rate"]) == (2, 0.2, [0.1])
    assert (record["diverged_step"], record["validation_loss"]) == (7, "nan")
    row = row_of(TRIAL, FOUND)
    assert list(row) == COLUMNS
    assert (row["setting"], row["learning_rate"], row["diverged"]) == (3, "0.1", 1)


def test_a_record_is_named_after_what_was_trained_not_after_its_place() -> None:
    moved = TRIAL._replace(candidate=replace(TRIAL.candidate, number=9))
    assert name_of(moved) == name_of(TRIAL)
    others = [
        TRIAL._replace(seed=3),
        TRIAL._replace(final=True),
        TRIAL._replace(candidate=replace(TRIAL.candidate, momentum=(0.8,))),
        TRIAL._replace(candidate=replace(TRIAL.candidate, milestones=(0.4,))),
    ]
    assert len({name_of(trial) for trial in [TRIAL, *others]}) == 5


@pytest.mark.parametrize("name", ["data_fingerprint", "model_source"])
def test_a_trial_of_other_data_or_another_network_is_refused(tmp_path: Path, name: str) -> None:
    runs = [RunDirectory.create(tmp_path, "search") for _ in range(3)]
    for run, content in zip(runs, "aab", strict=True):
        record_session(run, {name: content})
    TrialStore(runs[0].path).write(TRIAL, FOUND)
    (record,) = (runs[0].path / "trials").iterdir()
    assert json.loads(record.read_text())[name] == "a"
    stores = [TrialStore(run.path) for run in runs[1:]]
    for run in runs[1:]:
        shutil.copy(record, run.path / "trials")
    stores[0].refresh()
    assert stores[0].get(TRIAL) is not None
    for use in (stores[1].refresh, lambda: stores[1].claim(TRIAL)):
        with pytest.raises(ValueError, match=rf"another {name} \(a, here b\).*take it away"):
            use()


def test_final_trainings_are_not_counted_as_trials(tmp_path: Path) -> None:
    records = TrialStore(tmp_path)
    records.write(TRIAL, FOUND)
    records.write(TRIAL._replace(final=True), FOUND)
    assert (records.count(2), records.count(0)) == (1, 0)


@pytest.mark.parametrize("text", ["", "{", '{"seed": 1}', "[]"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    records = TrialStore(tmp_path)
    (tmp_path / "trials" / "seed0_0123456789ab (copy).json").write_text(text)
    records.refresh()  # what a sync tool leaves is passed over
    (tmp_path / "trials" / "seed0_0123456789ab.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"seed0_0123456789ab.json is damaged .*: delete it, and resume"
    ):
        records.refresh()


def test_a_trial_is_claimed_once(tmp_path: Path) -> None:
    mine, other = TrialStore(tmp_path), TrialStore(tmp_path)
    lock = mine.claim(TRIAL)
    assert lock is not None
    assert other.claim(TRIAL) is None
    lock.release()
    lock = other.claim(TRIAL)
    assert lock is not None
    other.write(TRIAL, FOUND)
    lock.release()
    assert mine.get(TRIAL) is None
    assert mine.claim(TRIAL) is None  # finished meanwhile
    assert mine.get(TRIAL) is not None


@pytest.mark.fault
def test_the_claim_of_a_dead_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from tests.drivers.search.test_trial_store import TRIAL, TrialStore\n"
        "lock = TrialStore(Path(sys.argv[1])).claim(TRIAL); print('claimed', flush=True)\n"
        "time.sleep(600)"
    )
    paths = os.pathsep.join(map(str, (TESTS, ROOT)))
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        records = TrialStore(tmp_path)
        assert records.claim(TRIAL) is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert records.claim(TRIAL) is not None


# Budgets


def trials_of(budget: str | None, known: dict[int, Spent], *more: str) -> list[int]:
    """Places of the trials that a budget pays for, given what some have cost; ten at most."""
    given = [] if budget is None else [f"budget={budget}"]
    config, _ = compose("baselines/digits", [*SMALL, "search=random", *given, *more])

    def get(trial: Trial) -> TrialResult | None:
        spent = known.get(trial.candidate.number)
        return None if spent is None else FOUND._replace(spent=spent)

    planned = Spent(gradients=100, trials=1)
    return [t.candidate.number for t in islice(open_trials(config, 0, planned, get), 10)]


def test_a_count_ends_a_search_and_so_does_a_budget_of_trials() -> None:
    assert trials_of(None, {}, "search.trials=4") == [0, 1, 2, 3]
    assert trials_of("3trials", {}, "search.trials=null") == [0, 1, 2]
    assert trials_of("3trials", {}, "search.trials=2") == [0, 1]
    assert trials_of("1gradients", {}, "search.trials=null") == [0]  # at least one


def test_trials_that_stopped_early_leave_room_for_more() -> None:
    endless = "search.trials=null"
    cheap, full = Spent(gradients=10, trials=1), Spent(gradients=100, trials=1)
    assert trials_of("300gradients", {}, endless) == [0, 1, 2]
    assert trials_of("300gradients", {0: full, 1: full}, endless) == [0, 1, 2]
    assert trials_of("300gradients", {0: cheap}, endless) == [0, 1, 2, 3]
    assert trials_of("300gradients", {0: cheap, 1: cheap}, endless) == [0, 1, 2, 3, 4]
    # what is planned for a trial under way is never less than it will cost: nothing is ever begun
    # that the budget does not pay for once all before it are known
    assert trials_of("300gradients", {0: cheap, 1: cheap, 2: full}, endless) == [0, 1, 2, 3, 4]


def test_a_budget_of_seconds_goes_by_the_mean_of_the_finished_ones() -> None:
    endless = "search.trials=null"
    assert trials_of("10s", {}, endless) == list(range(10))  # nothing is known yet
    known = {k: Spent(seconds=2.0, gradients=100, trials=1) for k in range(3)}
    assert trials_of("10s", known, endless) == [0, 1, 2, 3, 4]
    known |= {3: Spent(seconds=8.0, gradients=100, trials=1)}
    assert trials_of("10s", known, endless) == [0, 1, 2, 3]


def test_a_queue_hands_out_each_trial_once_and_takes_back_what_is_dropped(tmp_path: Path) -> None:
    trials = [TRIAL._replace(seed=seed, candidate=replace(TRIAL.candidate, momentum=(beta,)))
              for seed in (0, 1) for beta in (0.1, 0.2, 0.3)]  # fmt: skip
    one, two = (TrialQueue(TrialStore(tmp_path), size=2) for _ in range(2))
    mine, theirs = one.groups(lambda: iter(trials)), two.groups(lambda: iter(trials))
    assert next(mine) == trials[:2]
    assert next(theirs) == [trials[2]]  # a group is of one seed
    assert next(mine) == trials[3:5]
    one.settle(trials[3:5], [FOUND, FOUND])
    assert list(theirs) == [[trials[5]]]
    one.drop()
    two.drop()
    assert list(two.groups(lambda: iter(trials))) == [trials[:2], [trials[2]], [trials[5]]]


def test_final_trainings_and_hypergradient_descent_go_alone(tmp_path: Path) -> None:
    hd = Candidate(0, "hd", outer_learning_rate=0.2)
    trials = [TRIAL._replace(final=True), Trial(hd, 0), Trial(hd, 1)]
    queue = TrialQueue(TrialStore(tmp_path), size=8)
    assert list(queue.groups(lambda: iter(trials))) == [[trial] for trial in trials]


def test_a_helper_that_came_before_the_ground_was_written_knows_it_later(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "search")
    early = TrialStore(run.path)
    put_down(run, Ground({"epochs": 2}, {}))
    early.write(TRIAL, FOUND)
    (path,) = (run.path / "trials").iterdir()
    assert read_record(path)["ground"] == Ground({"epochs": 2}, {}).digests["fixed"]
    TrialStore(run.path).refresh()
    put_down(run, Ground({"epochs": 3}, {}))
    with pytest.raises(ValueError, match=r"another ground .*: it belongs to another search"):
        TrialStore(run.path).refresh()
