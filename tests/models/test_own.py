"""What can be wrong with a network of one's own, said in one line before anything runs."""

import re
import sys
from pathlib import Path

import pytest
import torch
from commands import Call
from torch import nn

from hypergrad.models import build, check_outputs

SHAPE, CLASSES = (1, 8, 8), 10


class Fits(nn.Module):
    """Draws random numbers, keeps statistics, and takes an option."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width))
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(width, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


class Alone(nn.Linear):
    def __init__(self) -> None:
        super().__init__(64, 10)


class ClassesAlone(nn.Linear):
    def __init__(self, classes: int) -> None:
        super().__init__(64, classes)


class Needy(nn.Linear):
    def __init__(self, shape: tuple, classes: int, width: int) -> None:
        super().__init__(64, classes)


def broken(shape: tuple, classes: int) -> nn.Module:
    return {}["weights"]


def nothing(shape: tuple, classes: int) -> None:
    """Forgets to return."""


@pytest.mark.parametrize(
    ("network", "options", "said"),
    [
        (Alone, {}, "'Alone' takes (), but it is called with (image_shape, classes): write a"),
        (ClassesAlone, {}, "def network(image_shape, classes): return ClassesAlone(...)"),
        (Needy, {}, "'Needy': missing a required argument: 'width', beyond (image_shape, classes)"),
        (Needy, {"depth": 3}, "'Needy' has no option depth: it takes width"),
        (Fits(SHAPE, 2), {}, "'Fits' is a module that is made already: give its class"),
        (3, {}, "'int' is a int: give a class or function"),
        (broken, {}, "'broken' cannot be made for images of 1x8x8 and 10 classes (KeyError: 'we"),
        (nothing, {}, "'nothing' gives a NoneType, not a torch.nn.Module"),
    ],
)
def test_what_makes_no_network_is_one_line(network: type, options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        build(network, SHAPE, CLASSES, options=options)
    assert "\n" not in str(caught.value)


def test_weights_of_torchvision_are_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", never)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", never)
    said = r"resnet18' takes \(weights, progress, \*\*kwargs\), but .* return resnet18\(\.\.\.\)"
    with pytest.raises(ValueError, match=said):
        build("torchvision.models:resnet18", (3, 32, 32), CLASSES)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), "gives 7 outputs an image for 10 classes"),
        (nn.Linear(8, 10), "gives 1x8x10 outputs an image for 10 classes"),
        (nn.Sequential(nn.Flatten(), nn.Linear(65, 10)), r"not take images of 1x8x8 \(RuntimeErr"),
        (nn.LSTM(8, 10), r"not take images of 1x8x8 \(ValueError: LSTM: Expected"),
        (nn.Sequential(nn.Flatten(0, 2), nn.LSTM(8, 10)), "gives a tuple: give a tensor"),
    ],
)
def test_what_gives_no_number_a_class_is_refused(module: nn.Module, said: str) -> None:
    with pytest.raises(ValueError, match=f"^model 'mine:Net' .*{said}"):
        check_outputs("mine:Net", module, torch.zeros(2, *SHAPE), CLASSES)


def test_the_trial_of_the_outputs_leaves_module_and_random_state() -> None:
    module = build(Fits, SHAPE, CLASSES, options={"width": 5})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    check_outputs("mine:Net", module, torch.randn(2, *SHAPE, generator=torch.Generator()), CLASSES)
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_command_line_says_it_in_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "seven_outputs", raising=False)
    text = "from torch import nn\n\ndef net(shape, classes): return nn.Sequential(nn.Flatten(), "
    (tmp_path / "seven_outputs.py").write_text(f"{text}nn.Linear(64, 7))\n")
    typed = ("model=custom", "model.name=seven_outputs:net", "scale=smoke")
    answer = call("run", "from_zero", *typed)
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert "model 'seven_outputs:net' gives 7 outputs an image for 10 classes" in line
    assert not (tmp_path / "outputs").exists()
