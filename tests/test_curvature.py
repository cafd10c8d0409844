"""Hessian products against the dense Hessian."""

import pytest
import torch
from problems import digits_problem
from torch.func import jacrev

from hypergrad.curvature import gradient, gradient_and_products
from hypergrad.seeding import generator


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
@pytest.mark.parametrize("name", ["mlp", "wrn"])
def test_products_equal_the_dense_hessian(name: str, strategy: str) -> None:
    options = {"hidden": 4, "depth": 1} if name == "mlp" else {"depth": 10}
    problem = digits_problem(name, batch_size=4, **options)
    x, y = problem.batch_at(0)

    def loss(theta: torch.Tensor) -> torch.Tensor:
        return problem.model.loss(theta, x, y)

    Z = torch.randn(3, problem.theta.numel(), generator=generator("Z"), dtype=torch.float64)
    g, HZ = gradient_and_products(loss, problem.theta, Z, strategy)
    torch.testing.assert_close(g, jacrev(loss)(problem.theta), rtol=1e-12, atol=1e-14)
    if name == "mlp":
        H = jacrev(jacrev(loss))(problem.theta)
        torch.testing.assert_close(HZ, Z @ H, rtol=1e-10, atol=1e-12)
    # symmetry holds for any loss: u'Hv = v'Hu
    assert float(Z[0] @ HZ[1]) == pytest.approx(float(Z[1] @ HZ[0]), rel=1e-9)


def test_strategies_agree_on_a_network_with_batch_norm() -> None:
    problem = digits_problem("wrn", depth=10)
    x, y = problem.batch_at(0)
    Z = torch.randn(2, problem.theta.numel(), generator=generator("Z"), dtype=torch.float64)

    def products(strategy: str) -> torch.Tensor:
        return gradient_and_products(
            lambda theta: problem.model.loss(theta, x, y), problem.theta, Z, strategy
        )[1]

    torch.testing.assert_close(products("vmap"), products("loop"), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
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
