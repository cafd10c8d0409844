"""What computes knows no optimiser and none of the paper's hyperparameters by name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

PACKAGE = ROOT / "hypergrad"
# Figures and reports label what people read; below them nothing does.
BELOW = ("core", "curvature", "differentiation", "training", "parallel", "runs")
BELOW = (*BELOW, "api.py", "improve_api.py")
WORDS = re.compile(r"sgd|adamw?\b|rmsprop|nesterov|learning_rate|momentum|weight_decay|beta[12]")

# Where a name stands for something else, or is what a person reads.
ALLOWED = {
    "core/rules": "the rules themselves",
    "curvature/batch_norm.py": "the momentum of running statistics",
    "curvature/batch_norm_statistics.py": "likewise",
    "training/hypergradient_descent.py": "the learning rate of the outer descent",
    "training/joint_descent.py": "likewise",
    "differentiation/one_step.py": "likewise",
}


def names(tree: ast.Module) -> Iterator[str]:
    """Identifiers and strings, but for docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docstrings:
                yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.arg or ""


def modules() -> list[str]:
    every = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
    return [name for name in every if name.startswith(BELOW) and not name.startswith((*ALLOWED,))]


@pytest.mark.parametrize("module", modules())
def test_a_module_names_no_optimizer_and_none_of_the_papers_three(module: str) -> None:
    tree = ast.parse(Path(PACKAGE / module).read_text())
    assert [name for name in names(tree) if WORDS.search(name)] == []


def test_the_search_finds_what_it_is_for() -> None:
    tree = ast.parse("'''sgd'''\nfrom x import y\ndef f(momentum): return a.learning_rate + 'adam'")
    assert sorted(n for n in names(tree) if WORDS.search(n)) == [
        "adam",
        "learning_rate",
        "momentum",
    ]
