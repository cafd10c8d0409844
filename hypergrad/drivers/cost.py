"""What a run is going to do, before it does it: inner runs, steps, memory."""

import math
from typing import NamedTuple

from hypergrad.config.schema import RunConfig
from hypergrad.differentiation.checkpointing import checkpoint_plan
from hypergrad.differentiation.mode import adjoint_rows
from hypergrad.differentiation.recursion import tangent_bytes
from hypergrad.drivers.batching import outer_options
from hypergrad.drivers.inner_optimizer import columns_at, inner_optimizer, learned_at
from hypergrad.drivers.search.candidates import count_of

__all__ = [
    "RETRAININGS",
    "Plan",
    "PlannedRun",
    "plan",
    "plan_hypervariance",
    "plan_improve",
    "plan_search",
    "tasks_of",
]

MANY = 1_000_000  # trials: a plan beyond that is none
RETRAININGS = ("ours_retrained", "hd_retrained", "sgd", "start")


class PlannedRun(NamedTuple):
    """One inner run.

    Attributes:
        method: As in `inner.csv`.
        outer_step: 0 for all but `ours`.
        steps: Inner steps.
        gradients: Cost of a step in gradient evaluations; a Hessian product counts as two.
        backward: The same for going back through it (reverse mode).
        trajectories: How often all that is done: see `outer.trajectories`, `trust.sign_agreement`.
    """

    method: str
    outer_step: int
    steps: int
    gradients: float
    backward: float = 0.0
    trajectories: int = 1

    @property
    def cost(self) -> float:
        """Gradient evaluations of one trajectory, there and back."""
        return self.steps * (self.gradients + self.backward)

    @property
    def whole_cost(self) -> float:
        """Gradient evaluations of all of them."""
        return self.trajectories * self.cost


class Plan(NamedTuple):
    """The inner runs of one repeat, in order, and what they need.

    Attributes:
        runs: Inner runs; a search that converges early skips some.
        memory_bytes: What differentiation needs on top of training at its peak: tangents and
            their products, or the states that reverse mode keeps.
        memory_note: What that is, for people.
    """

    runs: list[PlannedRun]
    memory_bytes: int
    memory_note: str

    def cost_before(self, method: str, outer_step: int) -> float:
        """Gradient evaluations planned before an inner run begins."""
        cost = 0.0
        for run in self.runs:
            if (run.method, run.outer_step) == (method, outer_step):
                return cost
            cost += run.whole_cost
        raise ValueError(f"no inner run {method} {outer_step} in this plan")

    @property
    def cost(self) -> float:
        """Gradient evaluations of one repeat."""
        return sum(run.whole_cost for run in self.runs)


def plan(config: RunConfig, n_train: int, parameters: int, buffer_bytes: int = 0) -> Plan:
    """Lay out one repeat of a run.

    Args:
        config: The run's configuration.
        n_train: Training images, before the validation split.
        parameters: `D`.
        buffer_bytes: Memory of the network's buffers.

    Returns:
        Its inner runs and needs.
    """
    method = config.method
    kept = n_train - max(1, round(n_train * method.validation_fraction))
    split_steps, full_steps = kept // method.batch_size, n_train // method.batch_size
    size = 8 if config.precision == "float64" else 4
    slots = len(inner_optimizer(config).rule.slots)
    state = (1 + slots) * parameters * size + buffer_bytes
    runs: list[PlannedRun] = []
    memory, note = 0, "no tangents"
    if method.name != "hd":
        longest = config.epochs * split_steps
        if method.mode == "reverse":
            again, memory, note = _reverse_memory(config, longest, state)
        else:
            again, columns = 0.0, sum(columns_at(config, longest))
            memory = columns * tangent_bytes(parameters * size, slots)
            note = f"{columns} tangents, whatever the horizon"
        if config.budget is not None:
            note += f"; a seed ends when {config.budget} are spent, or after all outer steps"
        options = outer_options(config)
        for step in range(options.steps):
            steps = options.horizon(step) * split_steps
            cost = _step_cost(config, step, again)
            count = options.trajectories + options.sign_agreement
            runs.append(PlannedRun("ours", step, steps, *cost, count))
        trainings = config.outer.confirm * config.outer.confirmations
        runs += [PlannedRun("confirm", i, longest, 1.0) for i in range(trainings)]
    hd = config.hd.enabled or method.name == "hd"
    if hd:
        runs.append(PlannedRun("hd", 0, config.epochs * split_steps, 2.0))
    wanted = {
        "ours_retrained": method.name != "hd",
        "hd_retrained": hd,
        "sgd": config.baseline.enabled and config.is_plain_sgd,
        "start": config.baseline.enabled and not config.is_plain_sgd,
    }
    for name in RETRAININGS:
        if wanted[name]:
            runs.append(PlannedRun(name, 0, config.epochs * full_steps, 1.0))
    return Plan(runs, memory, note)


def plan_hypervariance(
    config: RunConfig, n_train: int, parameters: int, buffer_bytes: int = 0
) -> Plan:
    """Lay out a study of hypervariance: an inner run a perturbation, all its repeats in it.

    Args:
        config: The run's configuration.
        n_train: Training images.
        parameters: `D`.
        buffer_bytes: Memory of the network's buffers.

    Returns:
        Its inner runs and needs; memory is that of one worker process.
    """
    study = config.hypervariance
    state = 2 * parameters * (8 if config.precision == "float64" else 4) + buffer_bytes
    again, memory, note = _reverse_memory(config, study.steps, state)
    # There: a step and a greedy hypergradient. Back: the same step again, its graph, a product.
    back = again + 1.0 + 2.0
    steps = config.repeats * study.steps
    runs = [PlannedRun(name, 0, steps, 2.0, back) for name in study.perturbations]
    return Plan(runs, memory, note)


def plan_improve(config: RunConfig, n_train: int, parameters: int, buffer_bytes: int = 0) -> Plan:
    """Lay out an improvement, of which races and ladders that end early skip some.

    Args:
        config: The run's configuration.
        n_train: Training images, before the validation split.
        parameters: `D`.
        buffer_bytes: Memory of the network's buffers.

    Returns:
        Its trainings stage by stage, and the memory of a differentiated one.
    """
    improve, batch = config.improve, config.method.batch_size
    kept = n_train - max(1, round(n_train * improve.validation_fraction))
    steps, full = config.epochs * (kept // batch), config.epochs * (n_train // batch)
    size = 8 if config.precision == "float64" else 4
    slots = len(inner_optimizer(config).rule.slots)
    state = (1 + slots) * parameters * size + buffer_bytes
    again, memory, note = _reverse_memory(config, steps, state)
    if config.budget is not None:
        note += f"; no iteration begins that would overshoot {config.budget}"
    runs = [PlannedRun("ladder", 0, steps, 1.0)] * (len(improve.scales) * improve.rung)
    candidates = 1 + len(improve.steps)
    for number in range(1, improve.iterations + 1):
        if improve.direction == "hypergradients":
            there_and_back = "direction", number, steps, 1.0, again + 1.0 + 2.0
            runs += [PlannedRun(*there_and_back)] * improve.trajectories
        runs += [PlannedRun("search", number, steps, 1.0)] * (candidates * improve.repeats)
    finalists = 1 + bool(improve.scales) + bool(improve.iterations)
    runs += [PlannedRun("confirm", 0, steps, 1.0)] * (finalists * improve.final)
    runs += [PlannedRun("judge", 0, full, 1.0)] * (2 * improve.judged)
    return Plan(runs, memory, note)


def plan_search(config: RunConfig, n_train: int, parameters: int, buffer_bytes: int = 0) -> Plan:
    """Lay out one seed of a search: an inner run for each trial to its end, and a final training.

    Args:
        config: The run's configuration.
        n_train: Training images, before the validation split.
        parameters: `D`.
        buffer_bytes: Memory of the network's buffers.

    Returns:
        Its inner runs and needs; a single trial where only a budget of seconds ends the search.
    """
    search, method, allowance = config.search, config.method, config.allowance
    kept = n_train - max(1, round(n_train * method.validation_fraction))
    steps = config.epochs * (kept // method.batch_size)
    cost = 2.0 if search.kind == "hd" else 1.0
    trials = count_of(config)
    note = "training alone keeps no tangents"
    if allowance is not None:
        note = f"a seed ends when {config.budget} are spent; {note}"
        each = {"trials": 1.0, "gradients": steps * cost}.get(allowance.unit)
        if each is None:
            note = f"the cost is that of one trial: {note}"
        affordable = 1 if each is None else max(1, round(allowance.amount / max(each, 1)))
        trials = affordable if trials is None else min(trials, affordable)
    assert trials is not None, "a search has an end"
    runs = [PlannedRun(search.kind, 0, steps, cost)] * min(trials, MANY)
    runs.append(PlannedRun("final", 0, config.epochs * (n_train // method.batch_size), 1.0))
    return Plan(runs, 0, note)


def tasks_of(config: RunConfig, layout: Plan) -> float:
    """Return into how many tasks a run divides among processes; infinite if time ends a search.

    Of an improvement, whose stages follow one another, that is the most at once.

    Args:
        config: The run's configuration.
        layout: Its plan.
    """
    if config.driver == "hypervariance":
        return config.repeats * len(layout.runs)
    if config.driver == "improve":
        own = config.improve
        return max(own.rung, own.trajectories, 1 + len(own.steps), 3, 2 * own.judged)
    if config.driver != "search":
        return 1
    allowance = config.allowance
    trials: float = len(layout.runs) - 1
    if allowance is not None and allowance.unit == "seconds":
        trials = count_of(config) or math.inf
    return trials * len(config.seeds)


def _step_cost(config: RunConfig, outer_step: int, again: float) -> tuple[float, float]:
    """Gradient evaluations of an inner step there, and back."""
    still = outer_step == 0 and not inner_optimizer(config).moves_at_start
    moving = not still  # while all learning rates are zero no product is needed
    if config.method.mode == "reverse":
        bases = {each.name: each.over for each in learned_at(config, 1)}
        products = (
            config.reverse.validation_chunks
            * moving
            * adjoint_rows(bases, config.method.truncation)
        )
        return 1.0, again + 1.0 + 2.0 * products
    counts = columns_at(config, 1)
    # A window's column is zero until it begins, and untouched while its kind is truncated.
    products = sum((count + 1) / 2 for count in counts if count) * (1 - config.method.truncation)
    return 1.0 + 2.0 * products * moving, 0.0


def _reverse_memory(config: RunConfig, horizon: int, state: int) -> tuple[float, int, str]:
    """Steps that reverse mode takes again, of each; the memory of its states, and what it is."""
    plan = checkpoint_plan(max(horizon, 1), state, config.reverse.memory_gb)
    again = plan.retaken / max(horizon, 1)
    if not plan.retaken:
        return 0.0, plan.bytes, f"the states of {horizon:,} steps"
    return again, plan.bytes, f"{plan.states} states; {again:.2f} steps taken again for each"
