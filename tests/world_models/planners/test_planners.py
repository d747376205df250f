"""Every planner, on costs whose least is known."""

import math

import pytest
import torch

from tests.world_models.planners.conftest import SHAPE
from world_models.planners import PLANNERS, PlannerConfig, make_planner, shift
from world_models.planners.sampling import by_cost, coloured

CONFIG = PlannerConfig(candidates=128, iterations=12, elites=12, min_std=0.01, colour=1.0)
BUDGETS = {"gradient": PlannerConfig(candidates=8, iterations=60, elites=2)}


def search(name, cost, start, noise_for, config=None, seeds=(0, 1)):
    config = config or BUDGETS.get(name, CONFIG)
    planner = make_planner(name, config)
    return planner.plan(cost, start, noise_for(planner, config, seeds))


@pytest.mark.parametrize("name", PLANNERS)
def test_the_least_of_a_quadratic_is_found(name, quadratic, make_start, noise_for):
    plan = search(name, quadratic(0.7), make_start(), noise_for)
    assert torch.allclose(plan.actions, torch.tensor(0.7), atol=0.15)
    assert torch.allclose(plan.cost, quadratic(0.7)(plan.actions[:, None])[:, 0])


@pytest.mark.parametrize("name", PLANNERS)
def test_plans_stay_within_the_bounds(name, quadratic, make_start, noise_for):
    """The least cost lies at 5, outside; the nearest allowed plan is the bound."""
    plan = search(name, quadratic(5.0), make_start(bound=1.0), noise_for)
    assert plan.actions.max() <= 1
    assert plan.actions.mean() > 0.95


@pytest.mark.parametrize("name", PLANNERS)
def test_a_warm_start_costs_less(name, quadratic, make_start, noise_for):
    config = PlannerConfig(candidates=16, iterations=2, elites=4)
    cold = search(name, quadratic(1.5), make_start(std=0.3), noise_for, config)
    warm = search(name, quadratic(1.5), make_start(std=0.3, mean=1.4), noise_for, config)
    assert (warm.cost < 0.2 * cold.cost).all()


@pytest.mark.parametrize("name", PLANNERS)
def test_a_proposal_that_is_best_is_taken(name, quadratic, make_start, noise_for):
    """One iteration around 0 cannot reach 1.9 everywhere; the proposal is there already."""
    config = PlannerConfig(candidates=8, iterations=1, elites=2, kept=0)
    proposals = torch.full((2, 1, *SHAPE), 1.9)
    plan = search(name, quadratic(1.9), make_start(std=0.1, proposals=proposals), noise_for, config)
    assert torch.allclose(plan.actions, proposals[:, 0])


@pytest.mark.parametrize("name", PLANNERS)
def test_a_plan_does_not_depend_on_the_environments_beside_it(name, make_start, noise_for):
    """The cost is highest at the start, so that noise alone decides to which side each action goes."""

    def cost(candidates):
        return (3 * candidates).cos().sum((2, 3, 4))

    config = PlannerConfig(candidates=16, iterations=3, elites=4)
    together = search(name, cost, make_start(3), noise_for, config, (5, 6, 7))
    alone = search(name, cost, make_start(1), noise_for, config, (6,))
    assert torch.allclose(together.actions[1], alone.actions[0], atol=1e-6)
    assert not torch.allclose(together.actions[0], together.actions[1], atol=0.1)


@pytest.mark.parametrize("name", PLANNERS)
def test_what_has_no_cost_is_never_taken(name, make_start, noise_for):
    """Costs are NaN wherever the first action is above 0; elsewhere the highest first action is best."""

    def cost(candidates):
        first = candidates[:, :, 0, 0, 0]
        return torch.where(first > 0, torch.nan, -first)

    config = PlannerConfig(candidates=32, iterations=4, elites=8)
    plan = search(name, cost, make_start(), noise_for, config)
    assert plan.actions[:, 0, 0, 0].max() <= 0
    assert plan.mean.isfinite().all()


@pytest.mark.parametrize("name", PLANNERS)
def test_the_least_cost_so_far_never_rises(name, quadratic, make_start, noise_for):
    plan = search(name, quadratic(0.7), make_start(), noise_for)
    assert (plan.trace.diff(dim=1) <= 0).all()
    assert torch.equal(plan.trace[:, -1], plan.cost)


def test_costs_in_half_precision_are_compared_in_full(make_start, noise_for, quadratic):
    plan = search("cem", lambda candidates: quadratic(0.7)(candidates).bfloat16(), make_start(), noise_for)
    assert plan.cost.dtype == torch.float32


def test_one_iteration_of_cem_is_the_moments_of_its_elites(make_start, noise_for, quadratic):
    config = PlannerConfig(candidates=16, iterations=1, elites=4)
    start, planner = make_start(), make_planner("cem", config)
    noise = noise_for(planner, config)
    candidates = torch.cat([start.mean[:, None], noise[:, 0, 1:]], dim=1).clamp(-2, 2)
    order = quadratic(0.7)(candidates).argsort(dim=1)[:, :4]
    elites = torch.stack([row[chosen] for row, chosen in zip(candidates, order, strict=True)])
    assert torch.allclose(planner.plan(quadratic(0.7), start, noise).mean, elites.mean(1), atol=1e-6)


def test_mppi_weighs_by_the_exponential_of_the_cost():
    """The gap between the best and the median of four is 2, so that temperature 0.5 makes it exp(-cost)."""
    config = PlannerConfig(candidates=8, elites=4, temperature=0.5)
    weights = by_cost(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), config)
    expected = torch.tensor([1.0, math.e**-1, math.e**-2, math.e**-3])
    assert torch.allclose(weights[0], expected / expected.sum())


def test_mppi_does_not_depend_on_the_unit_of_the_cost(make_start, noise_for, quadratic):
    plain = search("mppi", quadratic(0.7), make_start(), noise_for)
    scaled = search("mppi", lambda plans: 1000 * quadratic(0.7)(plans), make_start(), noise_for)
    assert torch.allclose(plain.actions, scaled.actions, atol=1e-3)


def test_coloured_noise_has_unit_variance_and_resembles_its_neighbour_in_time():
    white = torch.randn(4000, 4, 5, 2, generator=torch.Generator().manual_seed(0))
    red = coloured(white, 2.0)
    assert red.std() == pytest.approx(1, abs=0.02)
    flat, independent = red.flatten(1, 2), white.flatten(1, 2)
    assert (flat[:, 1:] * flat[:, :-1]).mean() > 0.8
    assert (independent[:, 1:] * independent[:, :-1]).mean().abs() < 0.02


def test_noise_without_colour_stays_as_it_is():
    white = torch.randn(3, 2, 5, 2)
    assert torch.allclose(coloured(white, 0.0), white, atol=1e-5)


def test_a_plan_is_shifted_by_what_was_executed():
    plan = torch.arange(6.0).view(1, 2, 3, 1)
    shifted = shift(plan, 2, torch.tensor(-1.0))
    assert shifted.flatten().tolist() == [2, 3, 4, 5, -1, -1]
    assert shift(plan, 9, torch.tensor(-1.0)).flatten().tolist() == [-1] * 6


def test_an_unknown_planner_names_the_valid_ones():
    with pytest.raises(ValueError, match="planner=cme: expected one of cem, icem, mppi, gradient"):
        make_planner("cme", CONFIG)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"candidates": 2}, "candidates=2: expected at least 3"),
        ({"iterations": 0}, "iterations=0: expected at least 1"),
        ({"elites": 64}, "elites=64: expected at most 63"),
        ({"kept": 9}, "kept=9: expected at most 8"),
        ({"temperature": 0.0}, "temperature=0: expected more than 0"),
        ({"min_std": -0.1}, r"min_std=-0\.1: expected at least 0"),
    ],
)
def test_counts_that_cannot_be_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        PlannerConfig(**overrides)
