"""Milliseconds into counts, from timings made up so that the answer is known."""

import time

import pytest
import torch

from world_models.planners import PlannerConfig
from world_models.planners.budget import MOST, SIZES, Timing, measure, spend

CONFIG = PlannerConfig(candidates=64, iterations=4, elites=8)
# 1 ms, and 0.01 ms for each candidate.
SMALL, LARGE = Timing(candidates=16, seconds=0.00116), Timing(candidates=256, seconds=0.00356)


def test_a_budget_buys_candidates_in_all_iterations():
    """Four iterations in 8 ms leave 2 ms each, 1 ms of them for candidates: 100."""
    bought = spend(CONFIG, 8.0, SMALL, LARGE)
    assert (bought.candidates, bought.iterations, bought.elites) == (100, 4, 12)


def test_iterations_are_given_up_before_candidates_get_too_few():
    """2.6 ms pay for two iterations of 16 candidates at 1.16 ms each, and then for 30 each."""
    bought = spend(CONFIG, 2.6, SMALL, LARGE)
    assert (bought.candidates, bought.iterations) == (30, 2)


def test_a_budget_too_small_for_anything_says_what_is_needed():
    with pytest.raises(ValueError, match=r"a budget of 1 ms: expected at least 1\.16 ms"):
        spend(CONFIG, 1.0, SMALL, LARGE)


def test_a_device_that_takes_any_number_at_once_gets_the_most():
    flat = Timing(candidates=256, seconds=0.00116)
    assert spend(CONFIG, 8.0, SMALL, flat).candidates == MOST


def test_what_is_bought_fits_the_budget():
    for milliseconds in (1.5, 3.0, 7.7, 20.0, 500.0):
        bought = spend(CONFIG, milliseconds, SMALL, LARGE)
        seconds = bought.iterations * (0.001 + 0.00001 * bought.candidates)
        assert seconds <= milliseconds / 1000 + 1e-12


def test_timings_are_of_the_search_itself():
    small, large = measure(lambda candidates: time.sleep(candidates / 16000), torch.device("cpu"))
    assert (small.candidates, large.candidates) == SIZES
    assert 0.001 <= small.seconds < 0.016 <= large.seconds
