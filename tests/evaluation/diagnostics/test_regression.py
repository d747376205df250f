import numpy as np
import pytest
import torch

from embodied.evaluation.diagnostics.measures import r_squared
from embodied.evaluation.diagnostics.regression import REGRESSORS, left_out, mlp, ridge

DRAW = np.random.default_rng(0)
FEATURES = DRAW.normal(size=(400, 6)) * [1, 10, 0.1, 1, 1, 1] + 3
GROUPS = np.arange(400) // 10
NEW = DRAW.normal(size=(100, 6)) * [1, 10, 0.1, 1, 1, 1] + 3


def linear(features: np.ndarray) -> np.ndarray:
    return features @ np.array([[1.0, 0.0], [0.2, 0.0], [0.0, 5.0], [0, 0], [0, 0], [0, 0]]) + 7


def bent(features: np.ndarray) -> np.ndarray:
    return np.abs(features[:, :1] - 3)


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_linear_relation_is_found_whatever_the_units(name: str) -> None:
    found = REGRESSORS[name](FEATURES, linear(FEATURES), GROUPS, NEW)
    assert r_squared(linear(NEW), found).min() > 0.95


def test_only_the_network_bends() -> None:
    scores = [r_squared(bent(NEW), fit(FEATURES, bent(FEATURES), GROUPS, NEW))[0] for fit in (ridge, mlp)]
    assert scores[0] < 0.1
    assert scores[1] > 0.7


@pytest.mark.parametrize("name", REGRESSORS)
def test_without_a_relation_the_mean_is_predicted(name: str) -> None:
    targets = np.random.default_rng(1).normal(5.0, 1.0, size=(400, 1))
    found = REGRESSORS[name](FEATURES, targets, GROUPS, NEW)
    assert found.mean() == pytest.approx(5.0, abs=0.2)
    assert found.std() < 0.4


@pytest.mark.parametrize("name", REGRESSORS)
def test_constant_features_and_targets_are_no_obstacle(name: str) -> None:
    found = REGRESSORS[name](np.ones((40, 3)), np.full((40, 2), 4.0), np.arange(40) // 4, np.ones((5, 3)))
    np.testing.assert_allclose(found, 4.0, atol=1e-6)


def test_the_network_is_the_same_each_time_and_leaves_torchs_seed_alone() -> None:
    torch.manual_seed(5)
    first = mlp(FEATURES, bent(FEATURES), GROUPS, NEW)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    np.testing.assert_array_equal(mlp(FEATURES, bent(FEATURES), GROUPS, NEW), first)


@pytest.mark.parametrize("groups", [2, 3, 5, 12])
def test_whole_groups_are_left_out_and_some_are_not(groups: int) -> None:
    names = np.repeat(np.arange(groups), 3)
    apart = left_out(names)
    assert 0 < apart.sum() < len(names)
    assert not set(names[apart]) & set(names[~apart])
