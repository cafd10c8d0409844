"""Losses with learned weights, on handwritten digits, against PyTorch's and written-out sums."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call

from hypergrad.core.batches import MicroBatches, Nest
from hypergrad.core.losses import Loss, Values, auxiliary, cross_entropy, distillation
from hypergrad.core.seeding import generator

B, CLASSES, SIZE = 24, 10, 60
# float64 sums of a few dozen terms in another order.
CLOSE = {"rtol": 1e-12, "atol": 1e-13}
Parameters = tuple[Tensor, ...]


def draw(*shape: int, key: str) -> Tensor:
    return torch.rand(shape, generator=generator(key), dtype=torch.float64) + 0.5


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    inputs, labels = load_digits(return_X_y=True)
    return torch.as_tensor(inputs[:B] / 16), torch.as_tensor(labels[:B]).long()


@pytest.fixture
def network() -> nn.Module:
    module = nn.Sequential(nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, CLASSES)).double()
    stream = generator("network")
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=stream, dtype=torch.float64) / p.shape[-1] ** 0.5
    return module


def index() -> Tensor:
    return torch.randperm(SIZE, generator=generator("index"))[:B]


def group() -> Tensor:
    return torch.randint(0, 3, (B,), generator=generator("group"))


def everything(inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return {
        "inputs": inputs,
        "labels": labels,
        "index": index(),
        "group": group(),
        "noise": draw(*inputs.shape, key="noise"),
        "teacher_logits": 3 * draw(B, CLASSES, key="teacher"),
    }


def all_values() -> dict[str, Tensor]:
    return {
        "label_smoothing": torch.tensor(0.13, dtype=torch.float64),
        "class_weights": draw(CLASSES, key="classes"),
        "noise": torch.tensor(0.3, dtype=torch.float64),
        "example_weights": draw(SIZE, key="examples"),
        "group_weights": draw(3, key="groups"),
        "temperature": torch.tensor(2.5, dtype=torch.float64),
        "distillation_weight": torch.tensor(0.4, dtype=torch.float64),
        "auxiliary_weight": torch.tensor(0.7, dtype=torch.float64),
    }


@pytest.mark.parametrize("loss", [cross_entropy, distillation, auxiliary(cross_entropy, max)])
def test_without_values_each_is_the_mean_cross_entropy(
    loss: Loss, digits: tuple[Tensor, Tensor], network: nn.Module
) -> None:
    value, output = loss(network, digits, {})
    assert output.equal(network(digits[0]))
    assert value.equal(F.cross_entropy(output, digits[1]))


@pytest.mark.parametrize("smoothing", [None, 0.0, 0.13, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_smoothing_and_class_weights_are_pytorchs_but_for_the_divisor(
    digits: tuple[Tensor, Tensor], network: nn.Module, smoothing: float | None, weighted: bool
) -> None:
    inputs, labels = digits
    c = all_values()["class_weights"]
    values = {"class_weights": c} if weighted else {}
    if smoothing is not None:
        values["label_smoothing"] = torch.tensor(smoothing, dtype=torch.float64)
    value, output = cross_entropy(network, digits, values)
    expected = F.cross_entropy(
        output, labels, weight=c if weighted else None, label_smoothing=smoothing or 0.0
    )
    if weighted:
        expected = expected * c[labels].sum() / B
    torch.testing.assert_close(value, expected, **CLOSE)


@pytest.mark.parametrize("names", [["example_weights"], ["group_weights"], ["both"]])
def test_weights_of_examples_and_groups(
    digits: tuple[Tensor, Tensor], network: nn.Module, names: list[str]
) -> None:
    batch, values = everything(*digits), all_values()
    names = ["example_weights", "group_weights"] if names == ["both"] else names
    value, output = cross_entropy(network, batch, {name: values[name] for name in names})
    expected = 0.0
    for i in range(B):
        weight = 1.0
        if "example_weights" in names:
            weight *= values["example_weights"][index()[i]].item()
        if "group_weights" in names:
            weight *= values["group_weights"][group()[i]].item()
        expected -= weight * output[i].log_softmax(0)[digits[1][i]].item() / B
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_a_third_entry_is_noise_or_groups_by_its_type(
    digits: tuple[Tensor, Tensor], network: nn.Module
) -> None:
    inputs, labels = digits
    batch, values = everything(inputs, labels), all_values()
    noisy, output = cross_entropy(
        network, (inputs, labels, batch["noise"]), {"noise": values["noise"]}
    )
    torch.testing.assert_close(output, network(inputs + 0.3 * batch["noise"]), **CLOSE)
    assert noisy.equal(F.cross_entropy(output, labels))
    _, output = cross_entropy(network, [inputs, labels, batch["noise"]], {})
    assert output.equal(network(inputs))
    only = {"group_weights": values["group_weights"]}
    grouped, _ = cross_entropy(network, (inputs, labels, batch["group"]), only)
    assert grouped.equal(cross_entropy(network, batch, only)[0])


def test_distillation_is_written_out(digits: tuple[Tensor, Tensor], network: nn.Module) -> None:
    batch, values = everything(*digits), all_values()
    teacher = batch["teacher_logits"]
    values = {name: values[name] for name in ("temperature", "distillation_weight")}
    value, output = distillation(network, (*digits, teacher), values)
    soft = F.kl_div(
        (output / 2.5).log_softmax(1), (teacher / 2.5).softmax(1), reduction="batchmean"
    )
    expected = 0.6 * F.cross_entropy(output, digits[1]) + 0.4 * 2.5**2 * soft
    torch.testing.assert_close(value, expected, **CLOSE)
    del values["temperature"]
    value, _ = distillation(network, batch, values)
    soft = F.kl_div(output.log_softmax(1), teacher.softmax(1), reduction="batchmean")
    expected = 0.6 * F.cross_entropy(output, digits[1]) + 0.4 * soft
    torch.testing.assert_close(value, expected, **CLOSE)


def decay(output: Tensor, batch: Nest) -> Tensor:
    return output.square().mean()


def test_auxiliary_adds_a_weighted_term(digits: tuple[Tensor, Tensor], network: nn.Module) -> None:
    values = {"auxiliary_weight": all_values()["auxiliary_weight"]}
    value, output = auxiliary(cross_entropy, decay)(network, digits, values)
    expected = F.cross_entropy(output, digits[1]) + 0.7 * output.square().mean()
    torch.testing.assert_close(value, expected, **CLOSE)
    bare = auxiliary(lambda module, batch, values: F.cross_entropy(*digits), decay)
    with pytest.raises(ValueError, match=r"return \(loss, output\)"):
        bare(network, (draw(B, CLASSES, key="x"), digits[1]), values)


def gradient(loss: Loss, network: nn.Module, batch: Nest, values: Values) -> Tensor:
    value, _ = loss(network, batch, values)
    grads = torch.autograd.grad(value, list(network.parameters()), create_graph=True)
    return torch.cat([g.flatten() for g in grads])


@pytest.mark.parametrize("loss", [cross_entropy, auxiliary(distillation, decay)])
def test_derivatives_against_central_differences(
    digits: tuple[Tensor, Tensor], network: nn.Module, loss: Loss
) -> None:
    batch = everything(*digits)
    if loss is cross_entropy:
        used = {"label_smoothing", "class_weights", "noise", "example_weights", "group_weights"}
    else:
        used = set(all_values())
    values = {k: v.clone().requires_grad_() for k, v in all_values().items() if k in used}
    g = gradient(loss, network, batch, values)
    direction = draw(len(g), key="direction") - 1
    eps = 1e-5

    # d/d(value) of the gradient along a direction: the mixed derivative that C needs.
    mixed = torch.autograd.grad(g @ direction, list(values.values()), retain_graph=True)
    for (name, value), found in zip(values.items(), mixed, strict=True):
        entry = int(index()[0]) % value.numel()
        step = torch.zeros(value.numel(), dtype=torch.float64)
        step[entry] = eps
        step = step.view_as(value)
        moved = [
            gradient(loss, network, batch, {**values, name: value.detach() + s * step}) @ direction
            for s in (1, -1)
        ]
        expected = (moved[0] - moved[1]).item() / (2 * eps)
        got = found.flatten()[entry].item()
        # Central differences: eps**2 of truncation and 1e-16 / eps of rounding.
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-9), name
        assert abs(got) > 1e-6, name

    # The Hessian's product with the same direction.
    product = torch.autograd.grad(g @ direction, list(network.parameters()))
    product = torch.cat([p.flatten() for p in product])
    start = nn.utils.parameters_to_vector(network.parameters()).detach()
    moved = []
    for s in (1, -1):
        nn.utils.vector_to_parameters(start + s * eps * direction, network.parameters())
        moved.append(gradient(loss, network, batch, values))
    torch.testing.assert_close(product, (moved[0] - moved[1]) / (2 * eps), rtol=1e-5, atol=1e-9)


# PyTorch compiles its own jvp rules on the first call, through an interface it deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_forward_over_reverse_for_many_columns_at_once(
    digits: tuple[Tensor, Tensor], network: nn.Module
) -> None:
    batch, values = everything(*digits), all_values()
    loss = auxiliary(distillation, decay)
    names = [name for name, _ in network.named_parameters()]

    def grads(parameters: Parameters, values: dict[str, Tensor]) -> Parameters:
        def scalar(parameters: Parameters) -> Tensor:
            def call(inputs: Tensor) -> Tensor:
                return functional_call(
                    network, dict(zip(names, parameters, strict=True)), (inputs,)
                )

            return loss(call, batch, values)[0]  # pyright: ignore[reportArgumentType]

        return torch.func.grad(scalar)(parameters)

    def column(dp: Parameters, dv: dict[str, Tensor]) -> Parameters:
        return torch.func.jvp(grads, (parameters, values), (dp, dv))[1]

    parameters = tuple(p.detach() for p in network.parameters())
    dp = tuple(draw(2, *p.shape, key=f"column {i}") - 1 for i, p in enumerate(parameters))
    dv = {k: draw(2, *v.shape, key=f"column {k}") - 1 for k, v in values.items()}
    found = torch.func.vmap(column)(dp, dv)
    eps = 1e-5
    for i in range(2):
        moved = [
            grads(
                tuple(p + s * eps * d[i] for p, d in zip(parameters, dp, strict=True)),
                {k: v + s * eps * dv[k][i] for k, v in values.items()},
            )
            for s in (1, -1)
        ]
        for got, plus, minus in zip(found, *moved, strict=True):
            # Central differences: eps**2 of truncation and 1e-16 / eps of rounding.
            torch.testing.assert_close(got[i], (plus - minus) / (2 * eps), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        ({"index": None}, ["example_weights"], "needs index, and .* no index: .*with_index=True"),
        ({"group": None}, ["group_weights"], "needs group, .* integer groups"),
        ({"noise": None}, ["noise"], r"needs noise, .* with_noise\(batches, key\)"),
        ({"inputs": None}, [], "no inputs: give"),
        ({"labels": torch.zeros(B, 2)}, [], r"labels of \(24, 2\): give logits \(B, classes\)"),
        ({"group": torch.zeros(3).long()}, ["group_weights"], r"group of shape \(3,\) beside 24"),
        ({"labels": "words"}, [], "a str, not a tensor, as labels"),
    ],
)
def test_a_batch_that_lacks_what_a_value_needs_is_refused(
    digits: tuple[Tensor, Tensor],
    network: nn.Module,
    change: dict[str, Nest],
    names: list[str],
    message: str,
) -> None:
    batch = {k: v for k, v in {**everything(*digits), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        cross_entropy(network, batch, {name: all_values()[name] for name in names})


def test_other_batches_and_shapes_are_refused(
    digits: tuple[Tensor, Tensor], network: nn.Module
) -> None:
    with pytest.raises(ValueError, match="a batch is a Tensor: give"):
        cross_entropy(network, digits[0], {})
    with pytest.raises(ValueError, match="a batch is a MicroBatches of 2"):
        cross_entropy(network, MicroBatches([digits, digits]), {})
    with pytest.raises(ValueError, match=r"class_weights of shape \(9,\) .* the 10 classes"):
        cross_entropy(network, digits, {"class_weights": torch.ones(9)})
    values = {"distillation_weight": torch.tensor(0.5)}
    with pytest.raises(ValueError, match=r"needs teacher_logits.*\(inputs, labels, teacher"):
        distillation(network, digits, values)
    with pytest.raises(ValueError, match=r"teacher logits of shape \(24, 9\)"):
        distillation(network, (*digits, torch.zeros(B, 9)), values)
