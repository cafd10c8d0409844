"""A schedule's own optimiser and scheduler: an ordinary loop with them is the same training."""

import io
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypergrad.core.basis import Hats, Vector, WarmUp
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip, NoClip, NormClip
from hypergrad.core.hyperparameters import Hyperparameter as H
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.losses import cross_entropy
from hypergrad.core.plain_training import PlainTraining
from hypergrad.core.rules import adam, adamw, rmsprop, sgd
from hypergrad.core.rules.learned_for import LearnedFor
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.core.scheduler import HyperparameterScheduler
from hypergrad.data import load

STEPS = 12


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10)).double()


@pytest.fixture(scope="module")
def batches() -> list[tuple[Tensor, Tensor]]:
    train = load("digits", train_size=16 * STEPS).train
    return list(zip(train.images.double().split(16), train.labels.split(16), strict=True))


def head(name: str, parameter: nn.Parameter) -> bool:
    return name.startswith("3.")


def body(name: str, parameter: nn.Parameter) -> bool:
    return not name.startswith("3.")


def matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.dim() > 1


GROUPS = (
    H("rate_head", Hats(3), (0.03, 0.01, 0.02), sets="learning_rate", where=head),
    H("rate_body", WarmUp(0.3, Hats(2)), (0.02, 0.01), sets="learning_rate", where=body),
    H("decay", 2, (0.1, 0.3), sets="weight_decay", where=matrix),  # vectors: the rule's default
    H("beta1", Hats(2), (0.8, 0.95)),
    H("steady", Hats(2), (0.99, 0.999), sets="beta2", learned=False),
)
OPTIMIZERS = {
    "sgd": InnerOptimizer(
        sgd(), (H("learning_rate", 3, (0.2, 0.1, 0.05)), H("momentum", 2, (0.0, 0.9)))
    ),
    "nesterov": InnerOptimizer(
        sgd(nesterov=True),
        (H("learning_rate", 3, 0.1), H("momentum", Hats(2), 0.9), H("weight_decay", 1, 1e-3)),
        ElementwiseClip(0.02),
    ),
    "dampened": InnerOptimizer(
        sgd(dampening=0.3), (H("learning_rate", 1, 0.1), H("momentum", 1, 0.9)), NormClip(0.1)
    ),
    "adam": InnerOptimizer(adam(), (H("learning_rate", Hats(2), 0.01), H("beta2", 1, 0.99))),
    "adamw with groups": InnerOptimizer(adamw(), GROUPS, NormClip(0.5)),
    "rmsprop": InnerOptimizer(
        rmsprop(centered=True), (H("rate", 2, 0.01, sets="learning_rate"), H("momentum", 1, 0.5))
    ),
}


def learned(inner: InnerOptimizer) -> Schedule:
    """A schedule as the outer loop makes it."""
    start = inner.start()
    return Schedule(start, start.bases, inner.learned_for(FlatModel(network())))


def loop(
    schedule: Schedule,
    batches: Sequence[tuple[Tensor, Tensor]],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: HyperparameterScheduler,
) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(module(x), y).backward()
        schedule.clip(module.parameters())
        optimizer.step()
        scheduler.step()


def trained(schedule: Schedule, batches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    module = network()
    optimizer = schedule.optimizer(module)
    loop(schedule, batches, module, optimizer, schedule.scheduler(optimizer, len(batches)))
    return nn.utils.parameters_to_vector(module.parameters())


each_optimizer = pytest.mark.parametrize("inner", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


@each_optimizer
def test_a_loop_takes_the_steps_of_plain_training_bit_for_bit(
    inner: InnerOptimizer, batches: list[tuple[Tensor, Tensor]]
) -> None:
    schedule = learned(inner)
    plain = PlainTraining(network(), F.cross_entropy, inner, schedule, STEPS)
    for step, batch in enumerate(batches):
        plain.step(step, batch)
    assert torch.equal(trained(schedule, batches), plain.flat())


@each_optimizer
def test_training_resumed_in_the_middle_has_the_same_bits(
    inner: InnerOptimizer, batches: list[tuple[Tensor, Tensor]]
) -> None:
    schedule, module = learned(inner), network()
    optimizer = schedule.optimizer(module)
    scheduler = schedule.scheduler(optimizer, STEPS)
    loop(schedule, batches[:7], module, optimizer, scheduler)
    file = io.BytesIO()
    torch.save([each.state_dict() for each in (module, optimizer, scheduler)], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)

    again = network()
    others = schedule.optimizer(again)
    for each, state in zip((again, others), states, strict=False):
        each.load_state_dict(state)
    later = schedule.scheduler(others, STEPS)  # which sets the first step's values
    later.load_state_dict(states[2])
    assert [without(g) for g in others.param_groups] == [without(g) for g in optimizer.param_groups]
    loop(schedule, batches[7:], again, others, later)
    whole = trained(schedule, batches)
    assert torch.equal(nn.utils.parameters_to_vector(again.parameters()), whole)


def without(group: dict) -> dict:
    return {name: value for name, value in group.items() if name not in ("params", "initial_lr")}


def test_accumulated_gradients_take_the_same_steps(batches: list[tuple[Tensor, Tensor]]) -> None:
    from hypergrad.core.batches import MicroBatches

    inner = OPTIMIZERS["adamw with groups"]
    schedule, module = learned(inner), network()
    micro = [MicroBatches(tuple(batches[i : i + 3])) for i in range(0, STEPS, 3)]
    plain = PlainTraining(network(), F.cross_entropy, inner, schedule, len(micro))
    for step, batch in enumerate(micro):
        plain.step(step, batch)
    optimizer = schedule.optimizer(module)
    scheduler = schedule.scheduler(optimizer, STEPS // 3)
    for number, (x, y) in enumerate(batches):
        (F.cross_entropy(module(x), y) / 3).backward()
        if number % 3 == 2:
            schedule.clip(module.parameters())
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    assert torch.equal(nn.utils.parameters_to_vector(module.parameters()), plain.flat())


@each_optimizer
def test_a_scaler_of_gradients_changes_no_bit(
    inner: InnerOptimizer, batches: list[tuple[Tensor, Tensor]]
) -> None:
    """Its scale is a power of two, and float64 is far from its limits."""
    schedule, module = learned(inner), network()
    optimizer = schedule.optimizer(module)
    scheduler, scaler = schedule.scheduler(optimizer, STEPS), torch.amp.GradScaler("cpu")
    assert scaler.is_enabled()
    for x, y in batches:
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(module(x), y)).backward()
        scaler.unscale_(optimizer)
        schedule.clip(module.parameters())
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
    assert scaler.get_scale() == 2.0**16
    whole = trained(schedule, batches)
    assert torch.equal(nn.utils.parameters_to_vector(module.parameters()), whole)


# What it sets


def test_every_value_of_every_group_is_set_at_every_step_of_another_horizon() -> None:
    schedule = learned(OPTIMIZERS["adamw with groups"])
    optimizer = schedule.optimizer(network())
    assert [group["hyperparameters"]["learning_rate"] for group in optimizer.param_groups] == [
        "rate_body", "rate_body", "rate_head", "rate_head"
    ]  # fmt: skip
    scheduler = schedule.scheduler(optimizer, 31)
    steady = Schedule({"steady": (0.99, 0.999)}, {"steady": Hats(2)})
    for step in range(31):
        now = {**schedule.at(step, 31), **steady.at(step, 31)}
        for group, decays in zip(optimizer.param_groups, (True, False) * 2, strict=True):
            assert group["lr"] == now[group["hyperparameters"]["learning_rate"]]
            assert group["betas"] == (now["beta1"], now["steady"])
            assert group["weight_decay"] == (now["decay"] if decays else 0.01)
            assert group["eps"] == 1e-8
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step()


def test_beyond_the_horizon_the_last_values_stay_with_one_warning() -> None:
    schedule = sgd_schedule((0.1, 0.2, 0.3), (0.5,))
    optimizer = schedule.optimizer(network())
    scheduler = schedule.scheduler(optimizer, 3)
    for _ in range(3):
        optimizer.step()
        scheduler.step()  # the last one of an ordinary loop is no step too many
    assert scheduler.get_last_lr() == [0.3]
    with pytest.warns(RuntimeWarning, match="goes on beyond the 3 steps of its schedule"):
        scheduler.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [0.3]
    with pytest.raises(ValueError, match="horizon=0: a training has at least one step"):
        schedule.scheduler(optimizer, 0)


def test_it_goes_into_a_sequence_of_schedulers() -> None:
    schedule = sgd_schedule((0.1, 0.2))
    optimizer = schedule.optimizer(network())
    flat = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    own = schedule.scheduler(optimizer, 4)
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, [flat, own], [2])
    seen = []
    for _ in range(6):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        both.step()
    assert seen[2:] == [0.1, 0.1, 0.2, 0.2]


def test_a_rate_that_is_a_tensor_stays_one() -> None:
    """Compiled steps read it where it is."""
    module = network()
    rate = torch.tensor(1.0)
    optimizer = torch.optim.SGD(module.parameters(), lr=rate)
    scheduler = sgd_schedule((0.1, 0.25)).scheduler(optimizer, 2)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == 0.25


def test_values_of_the_loss_are_told_as_it_calls_them() -> None:
    inner = InnerOptimizer(
        adamw(),
        (
            H("learning_rate", 1, 0.1),
            H("smoothing_of_ours", 2, (0.1, 0.2), sets="label_smoothing"),
            H("class_weights", Vector(10), 1.0, learned=False),
        ),
    )
    schedule = learned(inner)
    assert schedule.loss_values(3, 4) == {"label_smoothing": 0.2, "class_weights": (1.0,) * 10}
    optimizer = schedule.optimizer(network())
    schedule.apply(optimizer, 3, 4)
    assert optimizer.param_groups[0]["lr"] == 0.1
    values = {n: torch.tensor(v) for n, v in schedule.loss_values(0, 4).items()}
    batch = torch.zeros(2, 64, dtype=torch.float64), torch.tensor([0, 1])
    loss, _ = cross_entropy(network(), batch, values)
    plain = F.cross_entropy(network()(batch[0]), batch[1], label_smoothing=0.1)
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)


def test_gradients_are_clipped_as_they_were() -> None:
    p = torch.zeros(2, requires_grad=True)
    for inner, expected in (
        (OPTIMIZERS["nesterov"], [0.02, -0.02]),
        (OPTIMIZERS["dampened"], [0.1 * 3 / (5 + 1e-6), -0.1 * 4 / (5 + 1e-6)]),
        (OPTIMIZERS["sgd"], [3.0, -4.0]),
    ):
        p.grad = torch.tensor([3.0, -4.0])
        learned(inner).clip([p])
        assert p.grad.tolist() == pytest.approx(expected)


def test_a_clip_that_is_not_recorded_is_not_made_up() -> None:
    unknown = Schedule({"learning_rate": (0.1,)}, learned_for=LearnedFor("SGD"))
    with pytest.raises(ValueError, match="how gradients were clipped is not recorded"):
        unknown.clip([])
    Schedule({"learning_rate": (0.1,)}).clip([])  # by hand: nothing clips it
    assert learned(OPTIMIZERS["sgd"]).learned_for.clip == NoClip()  # type: ignore[union-attr]


# What it refuses


def test_another_network_is_refused_by_the_names_of_its_parameters() -> None:
    schedule = learned(OPTIMIZERS["adamw with groups"])
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10))
    with pytest.raises(ValueError, match=r"lacks 3.bias, 3.weight and has 2.bias, 2.weight; give"):
        schedule.optimizer(other)
    frozen = network()
    frozen[1].requires_grad_(False)
    with pytest.raises(ValueError, match=r"this one lacks 1.bias, 1.weight"):
        schedule.optimizer(frozen)


def test_wrappers_of_the_network_do_not_change_its_names() -> None:
    schedule = learned(OPTIMIZERS["adamw with groups"])
    optimizer = schedule.optimizer(nn.DataParallel(network()))
    assert len(optimizer.param_groups) == 4


class Wrapped(torch.optim.Optimizer):
    """As Accelerate wraps an optimiser."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> list[dict]:  # type: ignore[override]
        return self.optimizer.param_groups


def test_the_optimizer_inside_a_wrapper_is_found() -> None:
    schedule = sgd_schedule((0.1, 0.2))
    optimizer = schedule.optimizer(network())
    schedule.apply(Wrapped(optimizer), 1, 2)
    assert optimizer.param_groups[0]["lr"] == 0.2
    schedule.scheduler(Wrapped(optimizer), 2)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_groups_are_not_guessed() -> None:
    grouped = learned(OPTIMIZERS["adamw with groups"])
    with pytest.raises(ValueError, match=r"some of the parameters \(rate_body, decay, .*optimizer"):
        grouped.apply(torch.optim.AdamW(network().parameters()), 0, 10)
    unknown = OPTIMIZERS["adamw with groups"].start()
    with pytest.raises(ValueError, match="AdamW takes no rate_head, rate_body, decay"):
        unknown.apply(torch.optim.AdamW(network().parameters()), 0, 10)


def test_groups_of_another_schedule_are_refused() -> None:
    adamw_schedule = learned(InnerOptimizer(adamw(), (H("learning_rate", 2, 1e-3),)))
    grouped = learned(OPTIMIZERS["adamw with groups"])
    with pytest.raises(
        ValueError, match="set by beta1, decay, rate_body, rate_head and 1 more, which"
    ):
        adamw_schedule.apply(grouped.optimizer(network()), 0, 10)
    fewer = grouped.optimizer(network())
    for group in fewer.param_groups:
        group["hyperparameters"] = {"learning_rate": "rate_head"}
        group["betas"] = (0.9, 0.999)
        group["weight_decay"] = 0.01
    with pytest.raises(ValueError, match="no parameter group is set by beta1, decay"):
        grouped.apply(fewer, 0, 10)


def test_a_setting_that_was_changed_since_is_refused() -> None:
    schedule = learned(OPTIMIZERS["adamw with groups"])
    optimizer = schedule.optimizer(network())
    optimizer.param_groups[1]["weight_decay"] = 0.0
    with pytest.raises(ValueError, match="weight_decay=0.01, and parameter group 1 has weight"):
        schedule.apply(optimizer, 0, 10)
    nesterov = learned(OPTIMIZERS["nesterov"]).optimizer(network())
    assert nesterov.param_groups[0]["nesterov"] is True
    nesterov.param_groups[0]["nesterov"] = False
    with pytest.raises(ValueError, match="learned with nesterov=True"):
        learned(OPTIMIZERS["nesterov"]).apply(nesterov, 0, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 5}, "a training of 5 steps, and this one has 4: a schedule does not"),
        ({"schedule": "ab"}, "the state is of another schedule"),
        (None, "no state of a HyperparameterScheduler: it has no last_epoch"),
    ],
)
def test_a_state_of_another_training_is_refused(change: dict | None, message: str) -> None:
    schedule = sgd_schedule((0.1, 0.2))
    scheduler = schedule.scheduler(schedule.optimizer(network()), 4)
    state = {} if change is None else {**scheduler.state_dict(), **change}
    with pytest.raises(ValueError, match=message):
        scheduler.load_state_dict(state)
    assert scheduler.last_epoch == 0


def test_states_tell_bases_apart() -> None:
    plain = {"learning_rate": (0.1, 0.2)}
    states = [
        Schedule(plain, bases).scheduler(sgd_schedule((0.1,)).optimizer(network()), 4).state_dict()
        for bases in (None, {"learning_rate": Hats(2)})
    ]
    assert states[0]["schedule"] != states[1]["schedule"]
