"""Weights that are the same whatever was collected or run before."""

from torch import nn


def reinitialise(net: nn.Module) -> nn.Module:
    """Draw the weights anew from the seed of now.

    A network that a table at the top of a file holds is made when the file is collected, with
    whatever random state the files before it have left, and is changed by the tests that use it.
    """
    for module in net.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    return net
