"""Ready-made classification losses whose weights and strengths can be learned.

Each is a `loss(module, batch, values)` of an objective. `values` maps names to tensors; a name that
is missing leaves its term out, so that with no values each is the plain mean cross-entropy: what
validation wants. All are twice differentiable in the parameters and once in the values.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from hypergrad.core.batches import MicroBatches, Nest

__all__ = ["Loss", "Values", "auxiliary", "cross_entropy", "distillation"]

Values: TypeAlias = Mapping[str, Tensor]
Loss: TypeAlias = Callable[[nn.Module, Nest, Values], tuple[Tensor, Tensor]]
_Entries: TypeAlias = dict[str, Nest]

_REMEDIES = {
    "inputs": "give (inputs, labels) or a dict with inputs and labels",
    "labels": "give (inputs, labels) or a dict with inputs and labels",
    "noise": "make the batches with with_noise(batches, key)",
    "index": "make the batches with TensorBatches(..., with_index=True)",
    "group": "give a dict with group, or (inputs, labels, groups) with integer groups",
    "teacher_logits": "give a dict with teacher_logits, or (inputs, labels, teacher_logits)",
}


def cross_entropy(module: nn.Module, batch: Nest, values: Values) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy with what `values` holds of smoothing, weights and noise.

    `(1/B) sum_i e_i g_i ((1 - s) c_{y_i} nll_i - (s / classes) sum_k c_k log p_ik)`: smoothing `s`,
    class weights `c`, example weights `e`, group weights `g`, each as given. The divisor is the
    number of examples `B`. `F.cross_entropy(weight=c)` divides by `sum_i c_{y_i}` instead, with
    which scaling all weights would change nothing.

    Args:
        module: Maps inputs to logits `(B, classes)`.
        batch: `(inputs, labels)`, `(inputs, labels, noise)` with a floating third entry,
            `(inputs, labels, group)` with an integer one, or a dict with `inputs`, `labels` and
            what the values need: `noise` like the inputs, `index` and `group` `(B,)` integers.
            Labels are `(B,)` integers. Noise without a strength in `values` is not added.
        values: `label_smoothing` (scalar in [0, 1]), `class_weights` `(classes,)`, `noise` (scalar
            strength; the inputs are `inputs + strength * noise`), `example_weights` `(size,)`
            looked up by `index`, `group_weights` `(groups,)` looked up by `group`.

    Returns:
        Scalar loss, and the logits.

    Raises:
        ValueError: If the batch lacks an entry that a value needs, or a shape is not as above.
    """
    entries = _entries(batch, _noise_or_group)
    logits = module(_inputs(entries, values))
    return _hard_loss(logits, entries, values), logits


def distillation(module: nn.Module, batch: Nest, values: Values) -> tuple[Tensor, Tensor]:
    """Return the mix of cross-entropy and the divergence from a teacher.

    `(1 - w) CE + w T^2 (1/B) sum_i KL(softmax(teacher_i / T) || softmax(logits_i / T))`, of
    Hinton, Vinyals and Dean (2015), <https://arxiv.org/abs/1503.02531>.

    Args:
        module: Maps inputs to logits `(B, classes)`.
        batch: `(inputs, labels, teacher_logits)`, or a dict with these names and what
            `cross_entropy` needs; teacher logits `(B, classes)`. Without `distillation_weight`
            they may be missing.
        values: `distillation_weight` `w` (scalar), `temperature` `T` (scalar, above 0; 1 if
            missing), and those of `cross_entropy`, for the part `CE`.

    Returns:
        Scalar loss, and the logits.

    Raises:
        ValueError: If the batch lacks an entry that a value needs, or a shape is not as above.
    """
    entries = _entries(batch, lambda _: "teacher_logits")
    logits = module(_inputs(entries, values))
    hard = _hard_loss(logits, entries, values)
    w = values.get("distillation_weight")
    if w is None:
        return hard, logits
    teacher = _tensor(entries, "teacher_logits", "distillation_weight")
    if teacher.shape != logits.shape:
        raise ValueError(
            f"teacher logits of shape {tuple(teacher.shape)} beside logits of "
            f"{tuple(logits.shape)}: give the teacher's logits of the same examples and classes"
        )
    T = values.get("temperature", logits.new_ones(()))
    log_p = F.log_softmax(teacher / T, dim=1)
    log_q = F.log_softmax(logits / T, dim=1)
    soft = (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()
    return (1 - w) * hard + w * T.square() * soft, logits


def auxiliary(loss: Loss, extra: Callable[[Tensor, Nest], Tensor]) -> Loss:
    """Return `loss` plus a second term: `loss + values["auxiliary_weight"] * extra`.

    Args:
        loss: Any loss that returns its output as well.
        extra: Maps (output, batch) to a scalar.

    Returns:
        A loss; without `auxiliary_weight` in its values it is `loss`.

    Raises:
        ValueError: When called, if `loss` returns no output.
    """

    def weighted_sum(module: nn.Module, batch: Nest, values: Values) -> tuple[Tensor, Tensor]:
        result = loss(module, batch, values)
        if isinstance(result, Tensor):
            raise ValueError(
                "a loss with an auxiliary term returned a tensor alone: return (loss, output)"
            )
        main, output = result
        weight = values.get("auxiliary_weight")
        return (main if weight is None else main + weight * extra(output, batch)), output

    return weighted_sum


def _hard_loss(logits: Tensor, entries: _Entries, values: Values) -> Tensor:
    labels = _tensor(entries, "labels", "the loss")
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} and labels of {tuple(labels.shape)}: give "
            "logits (B, classes) and labels (B,), or write a loss of your own"
        )
    s = values.get("label_smoothing")
    c = values.get("class_weights")
    w = _example_weights(len(labels), entries, values)
    if s is None and c is None and w is None:
        return F.cross_entropy(logits, labels)
    losses = F.cross_entropy(logits, labels, reduction="none")
    if c is not None:
        if c.shape != logits.shape[1:]:
            raise ValueError(
                f"class_weights of shape {tuple(c.shape)} for logits of {tuple(logits.shape)}: "
                f"give one weight for each of the {logits.shape[1]} classes"
            )
        losses = c[labels] * losses
    if s is not None:
        log_p = F.log_softmax(logits, dim=1)
        losses = (1 - s) * losses - s * (log_p if c is None else c * log_p).mean(dim=1)
    return (losses if w is None else w * losses).mean()


def _example_weights(count: int, entries: _Entries, values: Values) -> Tensor | None:
    """Return `e_i g_i`, `(B,)`, or None if there are no such values."""
    found = None
    for name, key in (("example_weights", "index"), ("group_weights", "group")):
        if name not in values:
            continue
        which = _tensor(entries, key, name)
        if which.shape != (count,):
            raise ValueError(
                f"{key} of shape {tuple(which.shape)} beside {count} labels: give one integer for "
                "each example"
            )
        weights = values[name][which]
        found = weights if found is None else found * weights
    return found


def _inputs(entries: _Entries, values: Values) -> Nest:
    if "noise" not in values:
        return entries["inputs"]
    inputs = _tensor(entries, "inputs", "noise")
    return inputs + values["noise"] * _tensor(entries, "noise", "noise")


def _noise_or_group(third: Nest) -> str:
    floating = isinstance(third, Tensor) and third.is_floating_point()
    return "noise" if floating else "group"


def _entries(batch: Nest, name_of_third: Callable[[Nest], str]) -> _Entries:
    """Return the entries of a batch by name."""
    listed = isinstance(batch, (tuple, list)) and not isinstance(batch, MicroBatches)
    if isinstance(batch, Mapping):
        found = dict(batch)
    elif listed and len(batch) in (2, 3):
        found = {"inputs": batch[0], "labels": batch[1]}
        if len(batch) == 3:
            found[name_of_third(batch[2])] = batch[2]
    else:
        length = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise ValueError(
            f"a batch is a {type(batch).__name__}{length}: {_REMEDIES['inputs']}, or write a loss "
            "of your own"
        )
    for name in ("inputs", "labels"):
        if name not in found:
            raise ValueError(f"a batch has {', '.join(found)}, no {name}: {_REMEDIES[name]}")
    return found


def _tensor(entries: _Entries, name: str, needed_by: str) -> Tensor:
    entry = entries.get(name)
    if not isinstance(entry, Tensor):
        what = "no" if entry is None else f"a {type(entry).__name__}, not a tensor, as"
        raise ValueError(
            f"{needed_by} needs {name}, and a batch has {what} {name}: {_REMEDIES[name]}"
        )
    return entry
