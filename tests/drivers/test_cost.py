"""Predicted cost, and hand-set schedules."""

import pytest
import torch

from hypergrad.config.composition import compose
from hypergrad.core.rules.sgd_schedules import preset_schedule
from hypergrad.drivers.cost import plan, plan_hypervariance


def test_the_paper_scale_has_about_ten_thousand_steps() -> None:
    config, _ = compose("fig1")
    layout = plan(config, 50_000, 175_066)
    steps = [run.steps for run in layout.runs if run.method == "ours"]
    assert steps == [185] + [50 * 185] * 9
    assert layout.memory_note == "7 tangents, whatever the horizon"
    assert layout.memory_bytes == 5 * 7 * 175_066 * 4
    assert layout.cost_before("hd", 0) == pytest.approx(
        sum(run.cost for run in layout.runs if run.method == "ours")
    )
    assert {run.method: run.steps for run in layout.runs}["sgd"] == 50 * 195


def test_parts_that_are_switched_off_are_not_planned() -> None:
    config, _ = compose("fig1", ["hd.enabled=false", "baseline.enabled=false"])
    names = [run.method for run in plan(config, 50_000, 10).runs]
    assert set(names) == {"ours", "ours_retrained"}
    with pytest.raises(ValueError, match="no inner run hd 0"):
        plan(config, 50_000, 10).cost_before("hd", 0)


@pytest.mark.parametrize("horizon", [10, 37])
def test_hand_set_schedules_are_those_of_pytorch(horizon: int) -> None:
    def rates(make) -> list[float]:  # noqa: ANN001
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
        scheduler = make(optimizer)
        seen = []
        for _ in range(horizon):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return seen

    milestones = [-(-3 * horizon // 10), -(-6 * horizon // 10), -(-8 * horizon // 10)]
    multistep = preset_schedule(
        "multistep", horizon, learning_rate=0.4, milestones=(0.3, 0.6, 0.8), factor=0.2
    )
    assert multistep["learning_rate"] == pytest.approx(
        rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, milestones, 0.2))
    )
    cosine = preset_schedule("cosine", horizon, learning_rate=0.4)
    assert cosine["learning_rate"] == pytest.approx(
        rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, horizon)), abs=1e-12
    )
    constant = preset_schedule("constant", horizon, learning_rate=0.4, momentum=0.3)
    assert constant.at(0, horizon) == {"learning_rate": 0.4, "momentum": 0.3, "weight_decay": 0.0}


def test_reverse_mode_keeps_all_states_or_as_many_as_fit() -> None:
    # half of 60,000 images in batches of 128, two epochs
    config, _ = compose("fig3", ["data=mnist", "method=unshared"])
    layout = plan(config, 60_000, 44_426)
    assert layout.runs[1].steps == 468
    assert (layout.runs[1].gradients, layout.runs[1].backward) == (1.0, 3.0)
    assert layout.runs[0].backward == 1.0  # at zero nothing depends on the Hessian
    assert layout.memory_bytes == (468 + 2) * 2 * 44_426 * 4
    config, _ = compose("fig3", ["data=mnist", "method=unshared", "reverse.memory_gb=0.04"])
    layout = plan(config, 60_000, 44_426)
    assert layout.memory_note == "110 states; 0.76 steps taken again for each"
    assert layout.runs[1].backward == pytest.approx(3.0 + 358 / 468)


def test_hd_alone_has_no_outer_steps() -> None:
    config, _ = compose("fig3", ["data=mnist", "method=hd"])
    assert [run.method for run in plan(config, 60_000, 10).runs] == ["hd", "hd_retrained"]


def test_a_study_goes_there_and_back_for_every_repeat() -> None:
    config, _ = compose("fig2", ["data=mnist"])
    layout = plan_hypervariance(config, 60_000, 44_426)
    assert [run.method for run in layout.runs] == config.hypervariance.perturbations
    assert layout.runs[0].steps == 32 * 400
    assert layout.cost == 5 * 32 * 400 * (2 + 3)
