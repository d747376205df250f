"""Costs of foreseen latents, on numbers worked out by hand."""

import pytest
import torch

from world_models.costs import foresee, goal_distance, shortfall, unlikeliness

FORESEEN = torch.tensor([[[3.0, 1.0], [0.0, 4.0]]])[..., None, None]
"""One environment, two candidates, two steps, one token of width 1."""


@pytest.mark.parametrize(
    ("over", "expected"), [("final", [1.0, 16.0]), ("min", [1.0, 0.0]), ("mean", [5.0, 8.0])]
)
def test_distance_to_one_goal(over, expected):
    assert goal_distance(FORESEEN, torch.zeros(1, 1, 1, 1), over=over).tolist() == [expected]


def test_distance_to_a_goal_of_its_own_for_each_step():
    goals = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)
    assert goal_distance(FORESEEN, goals, over="mean").tolist() == [[0.5, 12.5]]


def test_what_promises_more_costs_less():
    readings = torch.tensor([[[0.0, 1.0], [4.0, -1.0]]])
    assert shortfall(readings, over="mean").tolist() == [[-0.5, -1.5]]
    assert shortfall(readings, over="final").tolist() == [[-1.0, 1.0]]
    assert shortfall(readings, over="min").tolist() == [[-1.0, -4.0]]


def test_unlikely_actions_are_those_far_from_the_mean():
    candidates = torch.tensor([1.0, 5.0]).view(1, 2, 1, 1, 1).expand(1, 2, 3, 2, 2)
    assert unlikeliness(candidates, torch.tensor(1.0), torch.tensor(2.0)).tolist() == [[0.0, 4.0]]


def test_every_candidate_is_foreseen_from_its_own_environment():
    class Sum:
        def rollout(self, history, chunks):
            return history[:, -1:] + chunks.sum((2, 3)).cumsum(1)[..., None, None]

    history = torch.tensor([10.0, 20.0]).view(2, 1, 1, 1)
    candidates = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(2, 2, 1, 1, 1).expand(2, 2, 2, 1, 1)
    expected = [[[11, 12], [12, 14]], [[23, 26], [24, 28]]]
    assert foresee(Sum(), history, candidates).flatten(2).tolist() == expected
