"""Rules: optimisers as pure updates, and the derivatives that follow from the update alone.

    theta_t, s_t = update(g_t, theta_{t-1}, s_{t-1}, values_t, t)

`g_t` is the (transformed) gradient at `theta_{t-1}`, `s` the slots that the optimiser keeps beside
the parameters. With tangents `Z = d theta / d lambda`, `S = d s / d lambda`, `G = d g / d lambda`,

    (Z_t, S_t) = J_g G_t + J_theta Z_{t-1} + J_s S_{t-1} + J_values d values_t / d lambda

and adjoints go the same way back through the transposed `J`. All but exotic optimisers treat every
parameter alone: then each block of `J` is a diagonal, which one backward pass of the update gives,
whatever the number of tangents. Those that do not say so and are differentiated a row at a time.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import jvp, vmap

__all__ = ["InTorch", "Injection", "Pulled", "Rows", "Rule", "State", "Value", "safe_sqrt"]

Value = float | Tensor  # a number; a scalar on the device; `(D,)` or, of `K` models, `(K, 1)`
Values = Mapping[str, Value]
Slots = tuple[Tensor, ...]
Update = Callable[[Tensor, Tensor, Slots, Values, "int | Tensor"], tuple[Tensor, Slots]]


class State(NamedTuple):
    """What a rule is given and gives: `(D,)` parameters, and `(D,)` slots.

    Its tangents have the same form: `Z`, and one `S` a slot, `(N, D)` each.
    """

    theta: Tensor
    slots: Slots

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the parameters and all slots."""
        return self.theta, *self.slots


class Injection(NamedTuple):
    """How a step's values depend directly on the coefficient behind one row.

    Attributes:
        row: Of the tangents.
        value: Name of the rule's value.
        weight: Its derivative, a number or a scalar on the device.
        mask: `(D,)`, 1 for the parameters that it is set for; None for all.
    """

    row: int
    value: str
    weight: Value
    mask: Tensor | None


class Rows(NamedTuple):
    """Which rows of the tangents a step touches.

    Attributes:
        moving: Rows that move; the others stay as they are.
        live: Those among them that have a tangent of the gradient, in the order of its rows.
        injected: Rows that the step's values depend on directly.
    """

    moving: Sequence[slice]
    live: Sequence[slice]
    injected: Sequence[Injection]


class Pulled(NamedTuple):
    """Adjoints before a step.

    Attributes:
        gradient: `(K, D)` of the (transformed) gradient.
        state: `(K, D)` of the parameters and of each slot, but for what goes through the gradient.
        values: Of the rule's values by name, as pairs of `(K, D)` and `(D,)`: the adjoint of a
            value is the sum of their products, over the parameters that it is set for.
    """

    gradient: Tensor
    state: State
    values: dict[str, list[tuple[Tensor, Tensor]]]

    def of(self, value: str, mask: Tensor | None = None) -> Tensor:
        """Return the `(K,)` adjoint of a value that is set for some of the parameters."""
        total = self.gradient.new_zeros(len(self.gradient))
        own = [rows @ (each if mask is None else mask * each) for rows, each in self.values[value]]
        return sum(own[1:], own[0]) if own else total


class InTorch(NamedTuple):
    """An optimiser of PyTorch.

    Attributes:
        kind: Its class.
        options: What it is made with. Of a momentum any value above zero: every step sets its own,
            but without one at the start it keeps no velocity.
    """

    kind: type[torch.optim.Optimizer]
    options: Mapping[str, bool | float] = MappingProxyType({})


@dataclass(frozen=True)
class Rule:
    """An optimiser.

    Args:
        update: Pure: new tensors, whose bits depend on nothing but its arguments.
            The step is 0-based: a number, or a scalar tensor where steps are recorded.
        defaults: The values it takes, by name; NaN where one must be given.
        slots: Names of what it keeps, zero at the start.
        rate: Name of the value without which nothing moves: while it is zero the parameters stand
            still. None if there is none.
        elementwise: Whether every parameter is treated alone.
        name: For messages.
        in_torch: Where PyTorch has the same optimiser; None where it has not.
        inertia: Name of the value `beta` by which a gradient goes on to act for `1 / (1 - beta)`
            steps, so that a rate is felt as `rate / (1 - beta)`; None where there is none, or where
            averages are taken.
    """

    update: Update
    defaults: Mapping[str, float] = field(hash=False)
    slots: tuple[str, ...] = ()
    rate: str | None = None
    elementwise: bool = True
    name: str = "custom"
    in_torch: InTorch | None = field(default=None, hash=False)
    inertia: str | None = None

    def push(
        self,
        tangents: State,
        G: Tensor,
        before: State,
        g: Tensor,
        after: State,
        values: Values,
        step: int | Tensor,
        rows: Rows,
    ) -> State:
        """Return the tangents after a step.

        Args:
            tangents: `(N, D)` before it.
            G: `(len(live), D)` tangents of the gradient.
            before: Parameters and slots before the step.
            g: `(D,)` gradient.
            after: Parameters and slots after it.
            values: What the step uses.
            step: 0-based.
            rows: Which rows it touches.
        """
        names = sorted({injection.value for injection in rows.injected})
        if not self.elementwise:
            return self._push_dense(tangents, G, before, g, values, step, rows, names)
        J = self.diagonals(before, g, values, step, names)
        olds = tangents.theta, *tangents.slots
        moved = []
        for out, old in enumerate(olds):
            new = torch.empty_like(old)
            for still in _gaps(rows.moving, len(old)):
                new[still] = old[still]
            for span in rows.moving:
                _combine(new[span], J[out][1:], [t[span] for t in olds])
            if (block := J[out][0]) is not None:
                for span, own in _matched(rows.live, G):
                    new[span].addcmul_(own, block)
            for row, value, weight, mask in rows.injected:
                block = J[out][1 + len(olds) + names.index(value)]
                if block is not None:
                    new[row] += weight * (block if mask is None else mask * block)
            moved.append(new)
        return State(moved[0], tuple(moved[1:]))

    def pull(
        self,
        adjoints: State,
        before: State,
        g: Tensor,
        values: Values,
        step: int | Tensor,
        names: Sequence[str],
    ) -> Pulled:
        """Return the adjoints before a step.

        Args:
            adjoints: `(K, D)` after it, of parameters and slots.
            before: Parameters and slots before the step.
            g: `(D,)` gradient.
            values: What the step uses.
            step: 0-based.
            names: Of the values whose adjoints are wanted.
        """
        outs = adjoints.theta, *adjoints.slots
        if not self.elementwise:
            return self._pull_dense(outs, before, g, values, step, names)
        J = self.diagonals(before, g, values, step, names)

        def pairs(column: int) -> list[tuple[Tensor, Tensor]]:
            blocks = [row[column] for row in J]
            return [(out, d) for out, d in zip(outs, blocks, strict=True) if d is not None]

        def through(column: int) -> Tensor:
            total = torch.zeros_like(outs[0])
            for out, block in pairs(column):
                total.addcmul_(out, block)
            return total

        count = 2 + len(before.slots)
        slots = tuple(through(column) for column in range(2, count))
        own = {name: pairs(count + place) for place, name in enumerate(names)}
        return Pulled(through(0), State(through(1), slots), own)

    def ahead(
        self,
        g_val: Tensor,
        before: State,
        g: Tensor,
        after: State,
        values: Values,
        step: int | Tensor,
        names: Sequence[str],
    ) -> Tensor:
        """Return the hypergradients one step ahead: what came before the step is a constant.

        Args:
            g_val: `(D,)` validation gradient after the step.
            before: Parameters and slots before it.
            g: `(D,)` gradient.
            after: Parameters and slots after it.
            values: What the step uses.
            step: 0-based.
            names: Of the values wanted.

        Returns:
            One a name.
        """
        adjoints = State(g_val[None], tuple(torch.zeros_like(s)[None] for s in before.slots))
        pulled = self.pull(adjoints, before, g, values, step, names)
        return torch.cat([pulled.of(name) for name in names])

    def _evaluate(
        self, before: State, g: Tensor, values: Values, step: int | Tensor, names: Sequence[str]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs that the update is differentiated with respect to, and its results."""
        inputs = [t.detach().requires_grad_() for t in (g, before.theta, *before.slots)]
        # One entry a parameter, so that the derivative is not summed over them.
        own = [torch.zeros_like(g).add_(values[name]).requires_grad_() for name in names]
        with torch.enable_grad():
            theta, slots = self.update(
                inputs[0],
                inputs[1],
                tuple(inputs[2:]),
                {**values, **dict(zip(names, own, strict=True))},
                step,
            )
        return inputs + own, [theta, *slots]

    def diagonals(
        self, before: State, g: Tensor, values: Values, step: int | Tensor, names: Sequence[str]
    ) -> list[list[Tensor | None]]:
        """For every result, `(D,)` derivatives by the gradient, parameters, slots and values."""
        inputs, results = self._evaluate(before, g, values, step, names)
        return [
            list(
                torch.autograd.grad(
                    result, inputs, torch.ones_like(result), retain_graph=True, allow_unused=True
                )
            )
            if result.requires_grad
            else [None] * len(inputs)
            for result in results
        ]

    def _pull_dense(
        self,
        outs: Sequence[Tensor],
        before: State,
        g: Tensor,
        values: Values,
        step: int | Tensor,
        names: Sequence[str],
    ) -> Pulled:
        """`pull` of an update that mixes parameters: a backward pass a row."""
        inputs, results = self._evaluate(before, g, values, step, names)
        each = [
            torch.autograd.grad(
                results, inputs, list(rows), retain_graph=True, materialize_grads=True
            )
            for rows in zip(*outs, strict=True)
        ]
        gradient, theta, *rest = (torch.stack(column) for column in zip(*each, strict=True))
        slots, own = rest[: len(before.slots)], rest[len(before.slots) :]
        ones = torch.ones_like(g)
        return Pulled(
            gradient,
            State(theta, tuple(slots)),
            {name: [(rows, ones)] for name, rows in zip(names, own, strict=True)},
        )

    def _push_dense(
        self,
        tangents: State,
        G: Tensor,
        before: State,
        g: Tensor,
        values: Values,
        step: int | Tensor,
        rows: Rows,
        names: Sequence[str],
    ) -> State:
        """`push` of an update that mixes parameters: a Jacobian product a row."""
        olds = tangents.theta, *tangents.slots
        full = torch.zeros_like(olds[0])
        for span, own in _matched(rows.live, G):
            full[span] = own
        direct = {name: torch.zeros_like(olds[0]) for name in names}
        for row, value, weight, mask in rows.injected:
            direct[value][row] += weight if mask is None else weight * mask
        fixed = {name: value for name, value in values.items() if name not in direct}
        primals = g, before.theta, *before.slots, *(_full(values[name], g) for name in names)
        count = 2 + len(before.slots)

        def update(*inputs: Tensor) -> tuple[Tensor, ...]:
            own = dict(zip(names, inputs[count:], strict=True))
            theta, slots = self.update(
                inputs[0], inputs[1], inputs[2:count], {**fixed, **own}, step
            )
            return theta, *slots

        def one(*directions: Tensor) -> tuple[Tensor, ...]:
            return jvp(update, primals, directions)[1]

        with warnings.catch_warnings():
            # PyTorch compiles its own jvp rules on the first call, through what it deprecates.
            warnings.filterwarnings(
                "ignore", message=".*torch.jit.script.*", category=FutureWarning
            )
            news = vmap(one, chunk_size=1)(full, *olds, *direct.values())
        results = [old.clone() for old in olds]
        for result, new in zip(results, news, strict=True):
            for span in rows.moving:
                result[span] = new[span]
        return State(results[0], tuple(results[1:]))


def safe_sqrt(x: Tensor) -> Tensor:
    """The square root of what is not negative, whose derivative at 0 is taken as 0.

    A parameter that never had a gradient (a row of an embedding that was never seen) has it there.
    """
    positive = x > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, x, 1.0)), 0.0)


def _full(value: Value, like: Tensor) -> Tensor:
    return torch.zeros_like(like).add_(value)


def _combine(out: Tensor, blocks: Sequence[Tensor | None], rows: Sequence[Tensor]) -> None:
    """Write `sum_i blocks_i rows_i` to `out`."""
    empty = True
    for block, own in zip(blocks, rows, strict=False):
        if block is None:
            continue
        if empty:
            torch.mul(own, block, out=out)
        else:
            out.addcmul_(own, block)
        empty = False
    if empty:
        out.zero_()


def _matched(spans: Sequence[slice], rows: Tensor) -> list[tuple[slice, Tensor]]:
    """Pairs of a span and its part of rows that lie one after another."""
    sizes = [span.stop - span.start for span in spans]
    return list(zip(spans, rows.split(sizes), strict=True)) if spans else []


def _gaps(spans: Sequence[slice], count: int) -> list[slice]:
    """What rising spans leave out of `count` rows."""
    edges = [0, *(edge for span in spans for edge in (span.start, span.stop)), count]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [slice(start, stop) for start, stop in pairs if start < stop]
