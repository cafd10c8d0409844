"""What a library's search is over: a module, a loss, data, an optimiser; each as it was given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import cast

from torch import Tensor, nn
from torch.utils.data import DataLoader

from hypergrad.api.fresh_network import fresh
from hypergrad.api.given_data import as_training, as_validation
from hypergrad.core.basis import described
from hypergrad.core.batches import tensors_in
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.objective import Criterion, Loss, Objective
from hypergrad.core.schedule import Schedule
from hypergrad.core.seeding import seed_of
from hypergrad.data import Batches, Images, in_even_batches
from hypergrad.data.content_hash import content_hash
from hypergrad.differentiation.mode import faster_options
from hypergrad.differentiation.options import ForwardOptions, settle
from hypergrad.differentiation.result import validation_batch
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun, differentiated
from hypergrad.training.graphed_step import Replay, replay_for
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.outer_loop import OuterData, OuterOptions

__all__ = [
    "GivenBatches",
    "GivenValidation",
    "LibraryProblem",
    "Options",
    "options_as_dict",
    "options_from",
]

GivenBatches = Batches | DataLoader | Callable[[int], Batches | DataLoader]
GivenValidation = (
    Sequence[Batch] | Images | DataLoader | Callable[[int], Sequence[Batch] | Images | DataLoader]
)
Options = ForwardOptions | ReverseOptions


class LibraryProblem:
    """Data, hyperparameters and inner runs of every outer step; settles what is left open, once.

    Args:
        module: The network, or what makes one.
        objective: Its loss.
        batches: Of training data.
        validation: What is held out.
        optimizer: The inner optimiser.
        outer: How the outer loop goes.
        shared: Whether values are shared by the steps of their bases.
        options: Forward or reverse mode; None to choose by trying.
        replay: Whether steps are recorded as CUDA graphs.

    Attributes:
        model: The network with its loss.
        theta: `(D,)` weights that every outer step begins with.
        optimizer: As given.
        options: As given, with what was chosen in place of None and `auto`.
    """

    def __init__(
        self,
        module: nn.Module | Callable[[], nn.Module],
        objective: Objective | Loss | Criterion,
        batches: GivenBatches,
        validation: GivenValidation,
        optimizer: InnerOptimizer,
        outer: OuterOptions,
        shared: bool,
        options: Options | None,
        replay: str,
    ) -> None:
        if not isinstance(optimizer, InnerOptimizer):
            raise ValueError(
                f"optimizer is a {type(optimizer).__name__}: give InnerOptimizer(rule, "
                "(Hyperparameter(...),)), with a rule such as sgd() or adamw()"
            )
        if not shared and options is None:
            options = ReverseOptions()
        if not shared and (isinstance(options, ForwardOptions) or any(outer.first_horizons)):
            raise ValueError(
                "shared=False learns a value for every inner step: give "
                "options=ReverseOptions(...) and first_horizons=()"
            )
        # A class has what its objects have, and makes them.
        ready = isinstance(batches, Batches) and not isinstance(batches, type)
        self._anew = callable(batches) and not ready
        if outer.trajectories > 1 and not self._anew:
            raise ValueError(
                f"trajectories={outer.trajectories} differ in the order of their data: give "
                "batches as a function of a number: lambda n: as_batches(data, 32, key=(n,))"
            )
        self._module, self._objective = module, objective
        if not isinstance(module, nn.Module):
            module = fresh(module, 0)
        self.model = FlatModel(module, objective)
        self.theta = self.model.theta()
        self.optimizer, self.options = optimizer, options
        self._given_options = repr(options)
        device = self.theta.device
        self._batches = batches if self._anew else as_training(batches, device)
        self._validation = validation
        if not callable(validation):
            self._validation = as_validation(validation, device)
        self._outer, self._shared, self._wanted = outer, shared, replay
        self._replay: Replay | None = None

    def data_at(self, number: int) -> OuterData:
        """Return the training and the validation data of an outer step.

        Raises:
            ValueError: For data that cannot begin again, or go back, where that is needed.
        """
        return self._data(number, number, self.theta)

    def another(self, number: int, k: int) -> OuterData:
        """Return the same of a further trajectory: other weights, and data of another draw.

        Raises:
            ValueError: As `data_at`; and for a module with parameters that it cannot reset.
        """
        draw = 2**31 + seed_of("trajectory", number, k) % 2**31  # no outer step's number
        theta = FlatModel(fresh(self._module, draw), self._objective).theta()
        return self._data(number, draw, theta)

    def _data(self, number: int, draw: int, theta: Tensor) -> OuterData:
        """The data that are drawn with a number, for an outer step, and weights to begin with."""
        given = self._batches
        made = cast("Callable", given)(draw) if self._anew else given
        minibatches = as_training(made, self.theta.device)
        name = type(minibatches).__name__
        begins_again = getattr(minibatches, "random_access", True)
        if number and minibatches is self._batches and not begins_again:
            raise ValueError(
                f"{name} does not fit its memory_gb and cannot begin again for another outer "
                "step: raise memory_gb, give a map-style data set or tensors, or a function that "
                "makes new batches for every outer step"
            )
        if isinstance(self.options, ReverseOptions) and not begins_again:
            raise ValueError(
                f"{name} does not fit its memory_gb and cannot go back, as reverse mode does: "
                "raise memory_gb, give a map-style data set or tensors, or use ForwardOptions"
            )
        horizon = self._outer.horizon(number)
        problem = InnerProblem.over_epochs(self.model, theta, minibatches, horizon, self.optimizer)
        held_out = self._validation
        if callable(held_out):
            held_out = held_out(draw)
        held_out = as_validation(held_out, self.theta.device)
        if not isinstance(held_out, Images):
            return OuterData(problem, held_out, held_out)
        inputs, _ = minibatches.at(0)
        size = validation_batch(len(inputs), len(held_out))
        return OuterData(problem, held_out, list(in_even_batches(held_out, size)))

    def fingerprints(self, data: OuterData, number: int) -> dict[str, Callable[[], str]]:
        """Return what hashes the first training batch and the validation data of an outer step.

        Args:
            data: Its data.
            number: Of the outer step; what is the same for all of them has no number.
        """
        train = f" of outer step {number}" if self._anew else ""
        held_out = f" of outer step {number}" if callable(self._validation) else ""
        minibatches = data.problem.minibatches
        return {
            f"the first minibatch{train}": lambda: _fingerprint(minibatches.at(0)),
            f"the number of minibatches an epoch{train}": lambda: str(minibatches.steps_per_epoch),
            f"the validation data{held_out}": lambda: _fingerprint(list(data.batches)),
        }

    def learned_at(self, horizon: int) -> Sequence:
        """Return what is learned over a horizon in inner steps."""
        return self.optimizer.learned(None if self._shared else horizon)

    def begin(self, given: OuterData, schedule: Schedule, number: int) -> ForwardRun | ReverseRun:
        """Return the inner run of an outer step, at its start."""
        problem = given.problem
        if self._replay is None:
            self._replay = replay_for(problem.model, problem.theta.device, self._wanted)
        batch, columns = problem.minibatches.at(0), len(schedule.flat)
        bound = self.optimizer.bind(problem.model, schedule)
        options = self.options
        if options is None:
            options = ForwardOptions()
            if getattr(problem.minibatches, "random_access", True):
                tried = problem.model, problem.theta, batch, bound, schedule, problem.horizon
                options = faster_options(*tried)
        if isinstance(options, ForwardOptions) and options.strategy == "auto":  # decides once
            options = settle(problem.model, problem.theta, batch, columns, options, bound, schedule)
        self.options = options
        return differentiated(problem, schedule, options, self._replay)

    @cached_property
    def given(self) -> dict[str, object]:
        """What a search must be given again to go on, as JSON keeps it."""
        learned = {
            each.name: [described(each.over), each.coefficients, each.scale, each.first_move]
            for each in self.optimizer.hyperparameters
        }
        rule, module = self.optimizer.rule, self.model.module
        others = [*module.parameters(), *module.buffers()]
        in_torch = None if rule.in_torch is None else dict(rule.in_torch.options)
        return {
            "the module's weights": content_hash(self.theta),
            "the module's buffers and frozen parameters": _fingerprint(others),
            "the rule": repr([rule.name, dict(rule.defaults), rule.slots, in_torch]),
            "the options": self._given_options,
            "the hyperparameters": _plain(learned),
            "the gradient transform": repr(self.optimizer.transform),
            "shared": self._shared,
            "epochs": self._outer.epochs,
            "first_horizons": list(self._outer.first_horizons),
            "trajectories": self._outer.trajectories,
            "descent": self._outer.descent,
        }


def _plain(value: object) -> object:
    """The same as JSON would bring it back."""
    if isinstance(value, Mapping):
        return {str(name): _plain(own) for name, own in value.items()}
    return [_plain(own) for own in value] if isinstance(value, list | tuple) else value


def options_as_dict(options: Options | None) -> dict | None:
    """Return options as JSON keeps them; `options_from` reads them."""
    if options is None:
        return None
    return {"reverse": isinstance(options, ReverseOptions), "fields": asdict(options)}


def options_from(kept: Mapping | None) -> Options | None:
    """Return the options that `options_as_dict` gave."""
    if kept is None:
        return None
    return (ReverseOptions if kept["reverse"] else ForwardOptions)(**kept["fields"])


def _fingerprint(batch: Batch) -> str:
    return content_hash(
        *(each.reshape(1) if each.dim() == 0 else each for each in tensors_in(batch))
    )
