"""Optimisers as pure updates, a file each; the only place that knows their names.

Imports nothing of the project.
"""

from collections.abc import Callable, Mapping

from hypergrad.core.rules.adam import adam, adamw
from hypergrad.core.rules.rmsprop import rmsprop
from hypergrad.core.rules.rule import Injection, Pulled, Rows, Rule, State, safe_sqrt
from hypergrad.core.rules.sgd import sgd

__all__ = [
    "DEFAULT",
    "Injection",
    "Pulled",
    "RULES",
    "Rows",
    "Rule",
    "State",
    "adam",
    "adamw",
    "rmsprop",
    "rule_named",
    "safe_sqrt",
    "sgd",
]

DEFAULT = sgd()  # of those who name none: the paper's
RULES: Mapping[str, Callable[..., Rule]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
}
SIGN_BASED = ("lion", "rprop", "signsgd", "signum")


def rule_named(name: str, options: Mapping[str, object] | None = None) -> Rule:
    """Return a rule by its name.

    Args:
        name: One of `RULES`.
        options: What its function takes.

    Raises:
        ValueError: For another name, or options that it does not take.
    """
    if name.lower() in SIGN_BASED:
        raise ValueError(
            f"optimizer {name} moves by signs, whose derivative is zero wherever there is one: no "
            f"hypergradient can come through it; use one of {', '.join(RULES)}"
        )
    if name not in RULES:
        raise ValueError(f"no optimizer {name!r}: use one of {', '.join(RULES)}")
    try:
        return RULES[name](**(options or {}))
    except TypeError as error:
        raise ValueError(f"optimizer {name}: {error}") from error
