"""Composing a configuration: what is in it, and one line with a remedy for whatever is wrong."""

import shutil
from pathlib import Path

import pytest

from hypergrad.config import overrides as typed
from hypergrad.config.checks import ConfigError
from hypergrad.config.composition import compose, load
from hypergrad.config.overrides import choices, expand_sweep
from hypergrad.config.schema import OuterConfig, RunConfig

# What is typed, and what the answer must contain: the name of the culprit and a remedy.
REFUSED = {
    "sede=1": "unknown key sede: did you mean seed?",
    "dta=mnist": "did you mean data?",
    "data=mnst": "unknown data 'mnst': did you mean mnist?",
    "scale=tiny": "use one of cpu, paper, smoke",
    "model.name.x=1": "unknown key model.name.x",
    "data.data=1": "unknown key data.data",
    "hydra.run.dir=x": "unknown key hydra.run.dir",
    "seed=x": "seed=x: must be a whole number",
    "seed=1.5": "seed=1.5: must be a whole number",
    "seed=": "must be a whole number",
    "seed=null": "needs a value",
    "seed=-1": "seed=-1: must be at least 0",
    "seed": "write key=value",
    "seed=[1": "write key=value",
    "=1": "has no key",
    "seed=0,1": "add -m",
    "experiment=fig1": "name the experiment first",
    "epochs=0": "at least 1",
    "epochs=${nothing}": "refers to ${nothing}",
    "threads=0": "at least 1",
    "name=a/b": "names a folder",
    "name=..": "names a folder",
    "device=tpu": "use auto, cpu, cuda",
    "precision=float16": "use one of float32, float64",
    "checkpoint_seconds=nan": "checkpoint_seconds=nan: must be zero or more",
    "method.validation_fraction=nan": "method.validation_fraction=nan: must be in (0, 1)",
    "method.validation_fraction=1": "must be in (0, 1)",
    "method.truncation=1": "must be in [0, 1)",
    "method.batch_size=0": "at least 1",
    "method.clip_gradient=-1": "above zero",
    "outer.learning_rate_step=inf": "above zero and finite",
    "outer.first_horizons=[0]": "outer.first_horizons=0: must be at least 1",
    "outer.first_horizons=3": "must be a list",
    "outer.first_horizons=[a]": "must be a whole number",
    "hd.enabled=maybe": "hd.enabled=maybe: must be true or false",
    "hd=null": "unknown hd",
    "baseline.momentum=nan": "baseline.momentum=nan: must be in [0, 1)",
    "baseline.weight_decay=-1": "zero or more",
    "baseline.milestones=[1.5]": "must be in [0, 1)",
    "baseline.schedule=exp": "use one of constant, multistep, cosine",
    "hvp.strategy=fast": "use one of auto, loop, vmap, stacked, fused",
    "hvp.precision=float16": "hvp.precision=float16: use one of tf32, bfloat16",
    "model.options.hidden=a": "model.options.hidden=a: must be a number",
    "+typo=1": "unknown key typo",
    "+data.typo=1": "unknown key data.typo",
    "+data=mnist": "write data=VALUE",
    "+seed=1": "write seed=VALUE",
    "data@x=mnist": "write data=VALUE",
    "data={name: mnist}": "unknown data",
    "data=${nothing}": "unknown data",
    "~data": "give data another value",
    "~seed": "give seed another value",
}


@pytest.mark.parametrize(("text", "answer"), REFUSED.items())
def test_bad_override_gets_one_line(text: str, answer: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("quickstart", [text])
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_experiment() -> None:
    with pytest.raises(ConfigError, match="unknown experiment 'quikstart': did you mean quick"):
        compose("quikstart")


def test_command_line_wins_over_scale_over_experiment() -> None:
    assert compose("quickstart")[0].epochs == 10
    assert compose("quickstart", ["scale=smoke"])[0].epochs == 2
    assert compose("quickstart", ["scale=smoke", "epochs=5"])[0].epochs == 5


def test_special_settings_apply_to_one_data_set_at_one_scale() -> None:
    special, _ = compose("fig1", ["data=mnist", "model=lenet", "scale=cpu"])
    general, _ = compose("fig1", ["data=svhn", "model=lenet", "scale=cpu"])
    assert (special.repeats, general.repeats) == (3, 1)
    assert special.seeds == [0, 1, 2]


def test_paper_numbers_of_figure_1() -> None:
    config, _ = compose("fig1")
    assert (config.data.name, config.model.name, config.model.options) == (
        "cifar10",
        "wrn",
        {"depth": 16, "width": 1},
    )
    assert (config.epochs, config.outer.steps, config.method.n_learning_rates) == (50, 10, 5)
    assert config.outer.step_sizes == (0.1, 0.15, 4e-4)


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_network_options_may_be_new(prefix: str) -> None:
    config, _ = compose("quickstart", [f"{prefix}model.options.mine=3"])
    assert config.model.options["mine"] == 3


# What a conf file is made to end with, and what the answer must contain.
BROKEN = {
    "\nsede: 1\n": "unknown key sede: did you mean seed? (in conf/experiment/quickstart.yaml)",
    "\nhd: {foo: 1}\n": "unknown key hd.foo",
    "\na: b: c\n": "broken YAML",
    "\nx: [1,\n": "quickstart.yaml",
    "\n\tx: 1\n": "line",
    "\nepochs: 3\n": "broken YAML",  # twice
    "\nseed: ten\n": "seed: must be a whole number (in conf/experiment/quickstart.yaml)",
    "\nseed: -1\n": "seed=-1",
}


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the configuration files that a test may spoil."""
    folder = tmp_path / "conf"
    shutil.copytree(typed.conf_folder(), folder)
    monkeypatch.setattr(typed, "conf_folder", lambda: folder)
    return folder


@pytest.mark.parametrize(("end", "answer"), BROKEN.items())
def test_broken_file_is_named(conf: Path, end: str, answer: str) -> None:
    file = conf / "experiment" / "quickstart.yaml"
    file.write_text(file.read_text() + end)
    with pytest.raises(ConfigError) as caught:
        compose("quickstart")
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"- a\n- b\n", b"\xff\xfe\x00"])
def test_file_that_is_no_configuration(conf: Path, content: bytes) -> None:
    (conf / "experiment" / "quickstart.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        compose("quickstart")
    assert "conf/" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_returns_what_was_composed() -> None:
    typed_in = ["model.options.mine=true", "data.root=/x", "seed=3", "epochs=${seed}"]
    config, text = compose("fig1", typed_in)
    assert config.epochs == 3
    assert load(text) == config


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("epochs: 10", "epochs: ten"),
        lambda text: text + "more: 1\n",
        lambda text: text + "\t:",
        lambda text: "- a\n",
        lambda text: "hello",
    ],
)
def test_damaged_configuration_of_a_run_is_refused(damage) -> None:  # noqa: ANN001
    text = compose("quickstart")[1]
    with pytest.raises(ConfigError, match=r"start a new run") as caught:
        load(damage(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sweep", "members"),
    [
        (["seed=1"], [["seed=1"]]),
        (["seed=0,1"], [["seed=0"], ["seed=1"]]),
        (["seed=range(2)", "data=choice(mnist,svhn)"], None),
        (["data=glob(m*)"], [["data=mnist"]]),
        (["+model.options.mine=1,2"], [["+model.options.mine=1"], ["+model.options.mine=2"]]),
        (["outer.first_horizons=[1],[2,3]"], None),
    ],
)
def test_sweeps(sweep: list[str], members: list[list[str]] | None) -> None:
    expanded = expand_sweep(sweep)
    assert members is None or expanded == members
    for member in expanded:
        compose("quickstart", member)
    if "seed=range(2)" in sweep:
        assert len(expanded) == 4


@pytest.mark.parametrize("text", ["seed=range(0)", "data=glob(zz*)", "seed=range(0,1,0)", "seed"])
def test_sweep_without_members(text: str) -> None:
    with pytest.raises(ConfigError):
        expand_sweep([text])


def test_first_horizons_are_no_longer_than_the_later_ones() -> None:
    outer = OuterConfig(first_horizons=[1, 30])
    assert [outer.horizon(step, 20) for step in range(3)] == [1, 20, 20]


def test_every_choice_composes() -> None:
    for group in ("data", "model", "scale"):
        for name in choices(group):
            needed = ["model.name=own:Net"] if name == "custom" else []
            config, _ = compose("quickstart", [f"{group}={name}", *needed])
            assert isinstance(config, RunConfig)
