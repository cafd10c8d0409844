"""Whether a network has learned nothing: it does no better than always naming one class."""

__all__ = ["is_dead"]

LEVEL = 0.05  # of the one-sided test


def is_dead(accuracy: float, chance: float, images: int) -> bool:
    """Return whether an accuracy is no better than that of a constant predictor.

    The exact binomial test, one-sided at 95 %: with `k` of `n` images named correctly and a
    commonest class of share `p`, the network is alive if `P(Binomial(n, p) >= k) <= 0.05`. A
    network that names one class, whichever it is, or one at random is found dead then, also where
    a few images by luck take it above `p`.

    Args:
        accuracy: On the images, in [0, 1].
        chance: Share of the commonest class among them, in [0, 1].
        images: How many there are.

    Raises:
        ValueError: If one of them is outside its range, or not a number.

    >>> is_dead(0.12, 0.1, 100), is_dead(0.12, 0.1, 10_000)
    (True, False)
    """
    for name, value in (("accuracy", accuracy), ("chance", chance)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value}: give a share in [0, 1]")
    if images < 1:
        raise ValueError(f"images={images}: give the number of images, at least 1")
    from scipy.special import betainc  # here, because it takes a while to import

    correct = round(accuracy * images)
    # P(X >= k) is the incomplete beta function at p with k and n - k + 1.
    tail = 1.0 if correct == 0 else float(betainc(correct, images - correct + 1, chance))
    return tail > LEVEL
