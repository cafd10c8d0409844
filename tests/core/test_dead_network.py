"""A network that has learned nothing."""

import math

import pytest

from hypergrad.core.dead_network import is_dead


def tail(correct: int, images: int, chance: float) -> float:
    """P(X >= correct), term by term."""
    return sum(
        math.comb(images, k) * chance**k * (1 - chance) ** (images - k)
        for k in range(correct, images + 1)
    )


@pytest.mark.parametrize("images", [1, 20, 95, 360])
@pytest.mark.parametrize("chance", [0.1, 0.1125, 0.5])
def test_it_is_the_exact_binomial_test(images: int, chance: float) -> None:
    for correct in range(images + 1):
        dead = tail(correct, images, chance) > 0.05
        assert is_dead(correct / images, chance, images) is dead, correct


def test_a_few_lucky_images_do_not_make_a_network_alive() -> None:
    assert is_dead(0.1135, 0.1135, 10_000)  # MNIST's commonest class, named always
    assert is_dead(0.1136, 0.1135, 10_000)  # above the share of the commonest class: by one image
    assert is_dead(0.098, 0.1135, 10_000)  # another class named always
    assert not is_dead(0.125, 0.1135, 10_000)
    assert not is_dead(0.97, 0.1135, 10_000)


def test_where_there_is_one_class_nothing_can_be_better() -> None:
    assert is_dead(1.0, 1.0, 50)


@pytest.mark.parametrize(
    ("given", "name"),
    [((math.nan, 0.1, 9), "accuracy"), ((0.5, 1.1, 9), "chance"), ((0.5, 0.1, 0), "images")],
)
def test_what_makes_no_sense_is_refused(given: tuple[float, float, int], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}="):
        is_dead(*given)
