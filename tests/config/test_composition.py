"""Composing a configuration: what is in it, and one line with a remedy for whatever is wrong."""

import shutil
from pathlib import Path

import pytest

from hypergrad.config import overrides as typed
from hypergrad.config.checks import ConfigError
from hypergrad.config.composition import compose, load
from hypergrad.config.overrides import choices, expand_sweep
from hypergrad.config.schema import RunConfig

# What is typed, and what the answer must contain: the name of the culprit and a remedy.
REFUSED = {
    "sede=1": "unknown key sede: did you mean seed?",
    "dta=mnist": "did you mean data?",
    "data=mnst": "unknown data 'mnst': did you mean mnist?",
    "scale=tiny": "use one of smoke",
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
    "threads=0": "use auto, or a number",
    "name=a/b": "names a folder",
    "name=..": "names a folder",
    "device=tpu": "use auto, cpu, mps, cuda",
    "precision=float16": "use one of float32, float64",
    "checkpoint_seconds=nan": "checkpoint_seconds=nan: must be zero or more",
    "method.validation_fraction=nan": "method.validation_fraction=nan: must be in (0, 1)",
    "method.validation_fraction=1": "must be in (0, 1)",
    "method.truncation=1": "must be in [0, 1)",
    "method.batch_size=0": "at least 1",
    "method.clip_gradient=-1": "above zero",
    "hyperparameters.learning_rate.first_move=inf": "above zero and finite",
    "hyperparameters.momentum.count=-1": "hyperparameters.momentum.count=-1: must be at least 0",
    "hyperparameters.momentum.cout=2": "cout: did you mean count?",
    "hyperparameters.momentun.count=2": "no hyperparameter 'momentun' in this experiment",
    "hyperparameters.momentum=2": "give a field, as in hyperparameters.momentum.count",
    "hyperparameters.momentum.basis=waves": "use one of windows, hats, cosine",
    "hyperparameters.momentum.where=biases": "use all, matrices, vectors, or name:REGEX",
    "hyperparameters.learning_rate.basis=hats": "method.truncation=0",
    "method.clip_norm=1": "one clip at most",
    "outer.first_horizons=[0]": "outer.first_horizons=0: must be at least 1",
    "outer.first_horizons=3": "must be a list",
    "outer.first_horizons=[a]": "must be a whole number",
    "hd.enabled=maybe": "hd.enabled=maybe: must be true or false",
    "hd=null": "hd=null: needs a value",
    "baseline.momentum=nan": "baseline.momentum=nan: must be in [0, 1)",
    "baseline.weight_decay=-1": "zero or more",
    "baseline.milestones=[1.5]": "must be in [0, 1)",
    "baseline.schedule=exp": "use one of constant, multistep, cosine",
    "hvp.strategy=fast": "use one of auto, loop, vmap, stacked, fused",
    "figures=[fig9]": "figures=fig9: use one of fig1, fig2",
    "model.name=${nothing}": "refers to ${nothing}",
    "driver=search": "say what is searched, as in search=random",
    "search.momentum_range=[1,0]": "search.momentum_range=[1.0, 0.0]: give two numbers, the lower",
    "search.grid.momentum=[1.5]": "search.grid.momentum=1.5: must be in [0, 1)",
    "search.hyper_learning_rates=[]": "search.hyper_learning_rates=[]: is empty: name some",
    "table.budgets.mnist=soon": "table.budgets.mnist=soon: 'soon' is no budget",
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
        compose("from_zero", [text])
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_experiment() -> None:
    with pytest.raises(ConfigError, match="unknown experiment 'quikstart': did you mean quick"):
        compose("quikstart")


def test_the_strategy_follows_the_precision_unless_it_is_named() -> None:
    def strategy(*overrides: str) -> str:
        return compose("fig1_mnist", ["model=lenet", *overrides])[0].hvp_strategy

    assert strategy("precision=float32") == "stacked"
    assert strategy("precision=float64") == "fused"
    assert strategy("precision=float64", "hvp.strategy=stacked") == "stacked"
    assert strategy("precision=float64", "model=wrn_16_1") == "fused"
    mine = ("model=custom", "model.name=a:Net", "precision=float64")
    assert strategy(*mine) == "auto"


def test_command_line_wins_over_scale_over_experiment() -> None:
    assert compose("from_zero")[0].epochs == 10
    assert compose("from_zero", ["scale=smoke"])[0].epochs == 2
    assert compose("from_zero", ["scale=smoke", "epochs=5"])[0].epochs == 5


def test_paper_numbers_of_figure_1() -> None:
    config, _ = compose("fig1")
    assert (config.data.name, config.model.name, config.model.options) == (
        "cifar10",
        "wrn",
        {"depth": 16, "width": 1},
    )
    assert (config.epochs, config.outer.steps) == (50, 10)
    declared = config.hyperparameters.items()
    assert [(name, each.count, each.first_move) for name, each in declared] == [
        ("learning_rate", 5, 0.1),
        ("momentum", 1, 0.15),
        ("weight_decay", 1, 4e-4),
    ]
    assert {(each.start, each.scale, each.basis) for _, each in declared} == {
        (0.0, "linear", "windows")
    }
    assert config.is_plain_sgd


@pytest.mark.parametrize(
    ("experiment", "overrides", "model"),
    [
        ("fig1", [], "wrn"),
        ("fig1", ["data=mnist"], "lenet"),
        ("fig1", ["data=svhn"], "lenet"),
        ("fig1", ["data=digits"], "mlp"),
        ("fig1", ["data=imagefolder"], "wrn"),
        ("fig1", ["data=mnist", "model=mlp"], "mlp"),
        ("fig1", ["model=mlp", "data=mnist"], "mlp"),
        ("fig2", ["data=digits"], "lenet"),  # it names its own
        ("baselines/digits", [], "lenet"),
        ("baselines/digits", ["data=digits"], "lenet"),
    ],
)
def test_the_model_is_the_one_typed_or_the_experiment_s_or_the_one_that_fits_the_data(
    experiment: str, overrides: list[str], model: str
) -> None:
    assert compose(experiment, overrides)[0].model.name == model


def test_an_experiment_is_known_by_its_keys_whatever_its_name() -> None:
    config, _ = compose("baselines/mnist_cpu")
    assert (config.experiment, config.name) == ("baselines/mnist_cpu", "baselines_mnist_cpu")
    assert (config.figures, config.table_column) == (["fig5"], "mnist")
    named, text = compose("fig1", ["name=mine"])
    assert (named.experiment, named.name, named.figures[:2]) == ("fig1", "mine", ["fig1", "fig4"])
    assert load(text) == named


@pytest.mark.parametrize(
    ("overrides", "driver"),
    [([], "learn"), (["search=random"], "search"), (["search=ours"], "learn")],
)
def test_a_search_is_driven_as_one(overrides: list[str], driver: str) -> None:
    assert compose("from_zero", overrides)[0].driver == driver


def test_what_cannot_be_searched() -> None:
    with pytest.raises(ConfigError, match=r"search=random: fig2 searches nothing; drop it"):
        compose("fig2", ["search=random"])


def test_method_unshared_keeps_one_horizon_unless_told() -> None:
    assert compose("from_zero")[0].outer.first_horizons == [1]
    assert compose("from_zero", ["method=unshared"])[0].outer.first_horizons == []


@pytest.mark.parametrize("group", ["experiment", "experiment/baselines"])
def test_smoke_makes_every_experiment_small(group: str) -> None:
    for name in choices(group):
        config, _ = compose(f"{group}/{name}".removeprefix("experiment/"), ["scale=smoke"])
        small = (config.scale, config.epochs, config.data.train_size, config.method.batch_size)
        assert small == ("smoke", 2, 400, 32)
        assert config.repeats == config.smoke_repeats <= 3


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_network_options_may_be_new(prefix: str) -> None:
    config, _ = compose("from_zero", [f"{prefix}model.options.mine=3"])
    assert config.model.options["mine"] == 3


# What a conf file is made to end with, and what the answer must contain.
BROKEN = {
    "\nsede: 1\n": "unknown key sede: did you mean seed? (in conf/experiment/from_zero.yaml)",
    "\nhd: {foo: 1}\n": "unknown key hd.foo",
    "\na: b: c\n": "broken YAML",
    "\nx: [1,\n": "from_zero.yaml",
    "\n\tx: 1\n": "line",
    "\nepochs: 3\n": "broken YAML",  # twice
    "\nseed: ten\n": "seed: must be a whole number (in conf/experiment/from_zero.yaml)",
    "\nseed: -1\n": "seed=-1",
    "\nname: ${nothing}\n": "refers to ${nothing}",
}


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the configuration files that a test may spoil."""
    folder = tmp_path / "conf"
    shutil.copytree(typed.conf_folder(), folder)
    monkeypatch.setattr(typed, "conf_folder", lambda: folder)
    return folder


@pytest.mark.parametrize(
    ("choice", "answer"),
    [
        ("override /data: mnst", "unknown data 'mnst': did you mean mnist?"),
        ("override /dta: mnist", "Could not override 'dta'. No match in the defaults list"),
    ],
)
def test_a_choice_of_a_file_that_is_not_there_is_named(
    conf: Path, choice: str, answer: str
) -> None:
    (conf / "experiment" / "mine.yaml").write_text(
        f"# @package _global_\ndefaults:\n  - {choice}\n"
    )
    with pytest.raises(ConfigError) as caught:
        compose("mine")
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("end", "answer"), BROKEN.items())
def test_broken_file_is_named(conf: Path, end: str, answer: str) -> None:
    file = conf / "experiment" / "from_zero.yaml"
    file.write_text(file.read_text() + end)
    with pytest.raises(ConfigError) as caught:
        compose("from_zero")
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["epochs", "seed", "test_curves"])
def test_a_default_that_is_nowhere_is_named(conf: Path, key: str) -> None:
    for file in (conf / "config.yaml", conf / "experiment" / "from_zero.yaml"):
        lines = file.read_text().splitlines()
        file.write_text("\n".join(line for line in lines if not line.startswith(f"{key}:")))
    with pytest.raises(ConfigError, match=f"^{key} is empty: give {key}=VALUE"):
        compose("from_zero")


@pytest.mark.parametrize("content", [b"", b"hello", b"- a\n- b\n", b"\xff\xfe\x00"])
def test_file_that_is_no_configuration(conf: Path, content: bytes) -> None:
    (conf / "experiment" / "from_zero.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        compose("from_zero")
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
    text = compose("from_zero")[1]
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
        compose("from_zero", member)
    if "seed=range(2)" in sweep:
        assert len(expanded) == 4


@pytest.mark.parametrize("text", ["seed=range(0)", "data=glob(zz*)", "seed=range(0,1,0)", "seed"])
def test_sweep_without_members(text: str) -> None:
    with pytest.raises(ConfigError):
        expand_sweep([text])


def test_every_choice_composes() -> None:
    for group in ("data", "model", "method", "baseline", "search", "scale"):
        for name in choices(group):
            needed = ["model.name=own:Net"] if name == "custom" else []
            config, _ = compose("from_zero", [f"{group}={name}", *needed])
            assert isinstance(config, RunConfig)
