"""What a configuration stands for on this machine: data, device, network, and what it will cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.config.wording import naming_settings
from hypergrad.core import losses
from hypergrad.core.double_precision import has_float64
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.objective import Objective, accuracy, supervised
from hypergrad.curvature.autotune import check_strategy
from hypergrad.curvature.low_precision import check_precision, true_float32
from hypergrad.data import Dataset
from hypergrad.differentiation.loss_check import check_loss
from hypergrad.differentiation.reverse import check_reversible
from hypergrad.drivers.cost import Plan, plan, plan_hypervariance, plan_improve, plan_search
from hypergrad.drivers.images import check_batch, load_data
from hypergrad.drivers.improve.space import improve_options, move_space
from hypergrad.drivers.inner_optimizer import inner_optimizer, learned_at, names_of_loss
from hypergrad.drivers.modes import with_mode
from hypergrad.drivers.own_network import network_of
from hypergrad.drivers.threads import with_threads
from hypergrad.models import build, check_outputs

__all__ = ["RunContext", "computing", "make_model", "prepare"]

LAYOUTS = {
    "learn": plan,
    "improve": plan_improve,
    "hypervariance": plan_hypervariance,
    "search": plan_search,
}


class RunContext(NamedTuple):
    """What a configuration stands for on this machine.

    Attributes:
        config: The configuration.
        data: Its images, on the device.
        device: Where everything is computed.
        plan: What the run is going to do.
        parameters: `D`.
        remarks: What was decided for this run, a line each.
    """

    config: RunConfig
    data: Dataset
    device: torch.device
    plan: Plan
    parameters: int
    remarks: tuple[str, ...] = ()


@contextmanager
def computing(config: RunConfig) -> Iterator[None]:
    """Compute in this process as a run wants it, and as before afterwards.

    That is with so many threads, and on a GPU float32 in float32.

    Args:
        config: The run's configuration.
    """
    threads = torch.get_num_threads()
    with true_float32():
        try:
            if config.threads != "auto":
                torch.set_num_threads(int(config.threads))
            yield
        finally:
            torch.set_num_threads(threads)


def prepare(config: RunConfig, *, stand_in: bool = False) -> RunContext:
    """Load the data, try the network on it, and lay out the run.

    No run directory is made, and the process is left as it is: see `computing`.

    Args:
        config: The run's configuration.
        stand_in: Take a named data set's sizes from the catalogue if it is not there, instead of
            fetching it: enough to say what a run would cost.

    Returns:
        Everything that the run needs.

    Raises:
        ValueError: For missing data, a network that does not fit it, a batch larger than the
            set, too little memory for reverse mode, or a device that is not there; one line that
            names the remedy.
    """
    device = _device(config.device, config.precision)
    with naming_settings():
        data, said = load_data(config, stand_in=stand_in)
        check_batch(config, len(data.train))
        data = data.to(device=device, dtype=getattr(torch, config.precision))
        model = make_model(config, data, config.seed)
        check_outputs(config.model.name, model.module, data.train.images[:2], data.n_classes)
        train, size, strategy = data.train, config.method.batch_size, config.hvp_strategy
        batch = train.images[:size], train.labels[:size]
        optimizer = inner_optimizer(config)
        start = optimizer.start()
        if config.driver == "improve":
            space = move_space(config)
            improve_options(config, config.seed)  # refused before there is a run directory
            optimizer, start = space.optimizer, space.base
        bound = optimizer.bind(model, start)
        values = check_loss(model, bound, start, model.theta(), batch)
        remarks = said
        if config.method.mode == "auto":
            config, settled = _with_mode(config, data, model)
            remarks = (*remarks, *settled)
        goes_back = {
            "hypervariance": True,
            "improve": config.improve.direction == "hypergradients",
        }
        if goes_back.get(config.driver, config.method.mode == "reverse"):
            check_reversible(model, model.theta(), batch, bound, start)
        elif config.driver == "learn":
            check_strategy(model, strategy, batch, values)
            check_precision(model, model.theta(), batch, strategy, config.hvp.precision)
    buffers = sum(buffer.nbytes for buffer in model.buffers().values())
    layout = LAYOUTS[config.driver](config, len(data.train), model.size, buffers)
    bases = [each.over for each in learned_at(config, 1)]  # unshared values fit any horizon
    windows = max((basis.count for basis in bases), default=0)
    shortest = min(run.steps for run in layout.runs)
    if config.driver == "learn" and shortest < windows:
        raise ConfigError(
            f"the shortest inner run, of {len(data.train)} training images with method.batch_size="
            f"{config.method.batch_size}, has {shortest} step{'s' * (shortest != 1)}, fewer than "
            f"the {windows} values of a kind: use more images (data.train_size), smaller batches, "
            "or fewer values"
        )
    return RunContext(config, data, device, layout, model.size, remarks)


def _with_mode(
    config: RunConfig, data: Dataset, model: FlatModel
) -> tuple[RunConfig, tuple[str, ...]]:
    """Settle the mode, by what steps take with the threads that the run will have."""
    if config.driver != "learn":
        return with_mode(config, data, model)[0], ()
    config, remarks = with_threads(config, data, model)
    with computing(config):
        config, why = with_mode(config, data, model)
    return config, (*remarks, why)


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
    try:
        network = network_of(config)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"model.name={config.model.name}: {error}") from error
    options = dict(config.model.options)
    module = build(network, data.shape, data.n_classes, seed=seed, options=options)
    images = data.train.images
    objective = supervised()
    if names_of_loss(config):
        objective = Objective(losses.cross_entropy, metric=accuracy)
    return FlatModel(module.to(device=images.device, dtype=images.dtype), objective)


def _device(name: str, precision: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: PyTorch sees no CUDA device here; use device=cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device=mps: PyTorch sees no Apple GPU here; use device=cpu")
    device = torch.device(name)
    if precision == "float64" and not has_float64(device):
        raise ConfigError(f"precision=float64: {name} has no float64; use device=cpu, or float32")
    return device
