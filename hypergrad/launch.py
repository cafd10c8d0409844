"""From a configuration to a finished run directory: data, network, driver, figures, table."""

import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from hypergrad import data as datasets
from hypergrad.data import Dataset, Images
from hypergrad.data.catalogue import CATALOGUE
from hypergrad.display import Display
from hypergrad.figures import FIGURES, draw
from hypergrad.flat import FlatModel
from hypergrad.forward import check_strategy
from hypergrad.learn import Learner
from hypergrad.loop import Interrupted, Loop
from hypergrad.models import MODELS, build
from hypergrad.outcome import RunFailed, headline, standings
from hypergrad.plan import Plan, plan
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import catch_signals
from hypergrad.runs.journal import Journal
from hypergrad.runs.provenance import finish_session, provenance, record_session
from hypergrad.schema import ConfigError, RunConfig

__all__ = ["Setting", "launch", "make_model", "prepare", "print_standings"]


class Setting(NamedTuple):
    """What a configuration stands for on this machine.

    Attributes:
        config: The configuration.
        data: Its images, on the device.
        device: Where everything is computed.
        plan: What the run is going to do.
        parameters: `D`.
    """

    config: RunConfig
    data: Dataset
    device: torch.device
    plan: Plan
    parameters: int


def prepare(config: RunConfig, *, stand_in: bool = False) -> Setting:
    """Load the data, try the network on it, and lay out the run; no run directory is made.

    Args:
        config: The run's configuration.
        stand_in: Take a named data set's sizes from the catalogue if it is not there, instead of
            fetching it: enough to say what a run would cost.

    Returns:
        Everything that the run needs.

    Raises:
        ValueError: For missing data, a network that does not fit it, a batch larger than the
            set, or a device that is not there; one line that names the remedy.
    """
    device = _device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    data = _load(config, stand_in).to(device=device, dtype=getattr(torch, config.precision))
    model = make_model(config, data, config.seed)
    check_strategy(model, config.model.curvature)
    layout = plan(config, len(data.train), model.size)
    windows = max(config.method.counts)
    shortest = min(part.steps for part in layout.parts)
    if shortest < windows:
        raise ConfigError(
            f"the shortest inner run has {shortest} steps, fewer than the {windows} values of a "
            "kind: use more images (data.train_size), a smaller method.batch_size, or fewer values"
        )
    return Setting(config, data, device, layout, model.size)


def make_model(config: RunConfig, data: Dataset, seed: int) -> FlatModel:
    """Build the configured network with the initial weights of a seed.

    Args:
        config: The run's configuration; `model.name` may be `package.module:Class`.
        data: Gives image shape, number of classes, device and precision.
        seed: Of the initial weights.

    Returns:
        The network.

    Raises:
        ConfigError: If there is no such network.
    """
    name, options = config.model.name, dict(config.model.options)
    if ":" in name:
        sys.path.insert(0, os.getcwd())  # a user's own module lies beside the call
        module_name, _, attribute = name.partition(":")
        try:
            MODELS[name] = getattr(import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"model.name={name}: {error}; run where the module can be imported"
            ) from error
        finally:
            sys.path.pop(0)
    module = build(name, data.shape, data.n_classes, seed=seed, options=options)
    images = data.train.images
    return FlatModel(module.to(device=images.device, dtype=images.dtype))


def launch(
    setting: Setting,
    run: RunDirectory,
    command: Sequence[str],
    *,
    resume: bool = False,
) -> int:
    """Run to the end, or until interrupted; draw the figures; print the table.

    Args:
        setting: What to run.
        run: Its directory, with the configuration written.
        command: The command line, for the record.
        resume: Go on from the newest checkpoint.

    Returns:
        Exit code: 0, or 130 / 143 after SIGINT / SIGTERM.
    """
    config = setting.config
    console = Console(stderr=True)
    smaller = {"paper": "scale=cpu or scale=smoke is smaller.", "cpu": "scale=smoke is smaller."}
    hint = f"{smaller.get(config.scale_name, '')} Ctrl-C stops with a checkpoint."
    began = time.monotonic()
    with run.hold(), catch_signals() as interrupt:
        torch.manual_seed(config.seed)
        record_session(run, provenance(_device_text(setting.device), config.seeds, command))
        journal = Journal(run)
        total = setting.plan.cost * len(config.seeds)
        with Display(total, config.outer.steps, config.epochs, hint, console) as display:
            loop = Loop(config, setting.data, setting.plan, journal, display, interrupt)
            learner = Learner(
                config,
                setting.data,
                lambda seed: make_model(config, setting.data, seed),
                setting.plan,
                loop,
            )
            if resume:
                loop.resume()
            _begin_summary(journal, config)
            try:
                learner.run()
            except Interrupted:
                journal.summarise({"status": "interrupted", "message": str(interrupt.requested)})
                print(
                    f"interrupted; go on with: hypergrad run {config.name} --resume {run.path}",
                    file=sys.stderr,
                )
                return interrupt.exit_code
            except Exception as error:
                text = f"{type(error).__name__}: {' '.join(str(error).split())}"
                journal.summarise({"status": "failed", "message": text})
                raise RunFailed(f"the run failed: {text} (run: {run.path})") from error
            finally:
                finish_session(run, time.monotonic() - began)
                journal.close()
        results = loop.progress.results
        journal.summarise({"status": "finished", "message": "", "headline": headline(results)})
    _close(run, config, results)
    return 0


def print_standings(results: Sequence[dict]) -> None:
    """Print the closing table on stdout."""
    table = Table("method", "test accuracy", "at chance")  # or diverged, which counts as that
    table.columns[1].justify = "right"
    for standing in standings(results):
        seeds = len(standing.accuracies)
        table.add_row(
            standing.title,
            standing.text,
            f"{standing.diverged} of {seeds}" if standing.diverged else "-",
        )
    Console().print(table)


def _load(config: RunConfig, stand_in: bool) -> Dataset:
    settings = config.data
    try:
        return datasets.load(
            settings.name,
            root=None if settings.root is None else Path(settings.root).expanduser(),
            path=None if settings.path is None else Path(settings.path).expanduser(),
            train_size=settings.train_size,
            test_size=settings.test_size,
            image_size=settings.image_size,
            download=not stand_in,
            seed=0,
        )
    except datasets.DataError:
        if not stand_in or settings.name not in CATALOGUE:
            raise
    entry = CATALOGUE[settings.name]
    channels, *sides = entry.shape
    if settings.image_size is not None:
        sides = [settings.image_size] * 2

    def blank(count: int) -> Images:
        # One image, seen `count` times: no memory.
        images = torch.zeros(1, channels, *sides).expand(count, channels, *sides)
        return Images(images, torch.zeros(count, dtype=torch.int64))

    print(f"{entry.name} is not here yet: sizes from the catalogue", file=sys.stderr)
    train, test = settings.train_size or entry.n_train, settings.test_size or entry.n_test
    return Dataset(entry.name, blank(train), blank(test), entry.classes)


def _close(run: RunDirectory, config: RunConfig, results: Sequence[dict]) -> None:
    print_standings(results)
    if config.scale_name == "smoke":
        print("smoke scale: shows that everything runs, and nothing about accuracy")
    for name, figure in FIGURES.items():
        if config.name in figure.experiments:
            picture = draw(name, run.path)[0]
            print(f"{name}: {picture}")
    print(f"run: {run.path}")


def _begin_summary(journal: Journal, config: RunConfig) -> None:
    journal.summarise(
        {
            "experiment": config.name,
            "status": "running",
            "message": "",
            "settings": {
                "data": config.data.name,
                "model": config.model.name,
                "scale": config.scale_name,
                "epochs": config.epochs,
                "outer_steps": config.outer.steps,
            },
            "headline": "",
        }
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: PyTorch sees no CUDA device here; use device=cpu")
    return torch.device(name)


def _device_text(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
