"""Hessian products against the dense Hessian."""

import pytest
import torch
from problems import digits_problem
from torch.func import jacrev

from hypergrad.core.seeding import generator
from hypergrad.curvature import STRATEGIES, gradient, gradient_and_products

PROBLEMS = {
    "mlp": ("mlp", {"hidden": 4, "depth": 1}),
    "smooth mlp": ("mlp", {"hidden": 4, "depth": 1, "smooth": True}),
    "lenet": ("lenet", {}),
    "wrn": ("wrn", {"depth": 10}),
}
CASES = [(name, strategy) for name in PROBLEMS for strategy in STRATEGIES]
CASES.remove(("wrn", "stacked"))


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_every_strategy_on_every_network(name: str, strategy: str) -> None:
    network, options = PROBLEMS[name]
    problem = digits_problem(network, batch_size=4, **options)
    x, y = problem.batch_at(0)

    def loss(theta: torch.Tensor) -> torch.Tensor:
        return problem.model.loss(theta, (x, y))

    Z = torch.randn(3, problem.theta.numel(), generator=generator("Z"), dtype=torch.float64)
    g, HZ = gradient_and_products(loss, problem.theta, Z, strategy)
    # Sums of the same terms in another order: 1e-10 leaves no room for a missing one.
    expected = gradient_and_products(loss, problem.theta, Z, "loop")[1]
    torch.testing.assert_close(g, jacrev(loss)(problem.theta), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(HZ, expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())
    if network == "mlp":
        H = jacrev(jacrev(loss))(problem.theta)
        torch.testing.assert_close(HZ, Z @ H, rtol=1e-10, atol=1e-12)
    # symmetry holds for any loss: u'Hv = v'Hu
    assert float(Z[0] @ HZ[1]) == pytest.approx(float(Z[1] @ HZ[0]), rel=1e-9)


@pytest.mark.parametrize("strategy", ["loop", "vmap", "fused"])
def test_a_linear_loss_has_zero_products(strategy: str) -> None:
    a, Z = torch.arange(3.0), torch.ones(2, 3)
    g, HZ = gradient_and_products(lambda theta: a @ theta, torch.zeros(3), Z, strategy)
    assert torch.equal(g, a)
    assert torch.equal(HZ, torch.zeros(2, 3))


def test_without_tangents_there_is_one_gradient_and_one_evaluation() -> None:
    calls = []

    def loss(theta: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return (theta**2).sum()

    g, HZ = gradient_and_products(loss, torch.ones(3), torch.zeros(0, 3), "vmap")
    assert torch.equal(g, torch.full((3,), 2.0))
    assert HZ.shape == (0, 3)
    assert len(calls) == 1
    assert torch.equal(gradient(loss, torch.ones(3)), g)


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(ValueError, match="unknown curvature strategy 'magic'"):
        gradient_and_products(lambda theta: theta.sum(), torch.ones(1), torch.ones(1, 1), "magic")
