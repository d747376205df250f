"""What a run measures about itself."""

import math

import pytest
import torch

from embodied.training.meter import Meter


@pytest.fixture
def meter() -> Meter:
    return Meter(torch.device("cpu"), step=0, samples_per_step=4)


def test_means_are_over_the_batches_in_which_a_metric_appeared(meter: Meter) -> None:
    """Numbers and one-element tensors are averaged; text and larger tensors are not metrics."""
    meter.add({"loss": torch.tensor(1.0), "kl": 4.0, "note": "text", "weights": torch.zeros(3)})
    meter.add({"loss": torch.tensor([3.0])})
    row = meter.row(2)
    assert (row["loss"], row["kl"]) == (2.0, 4.0)
    assert set(row) == {"loss", "kl", "samples_per_s", "data_fraction"}
    assert set(meter.row(2)) == {"samples_per_s", "data_fraction"}


def test_the_first_step_that_is_not_finite_is_remembered(meter: Meter) -> None:
    """Later ones, finite or not, change nothing."""
    values = [1.0, math.inf, 1.0, math.nan]
    for step, value in enumerate(values, start=1):
        meter.add_finite("loss", torch.tensor(value), step)
        assert meter.first_bad_step() == (None if step == 1 else 2)


def test_pauses_and_waiting_for_data(meter: Meter) -> None:
    """Two steps of 4 samples in a second, a quarter of it waiting; ten seconds of evaluation do not count."""
    meter._start -= 11.0
    meter.pause(10.0)
    meter.waited(0.25)
    row = meter.row(2)
    assert row["samples_per_s"] == pytest.approx(8.0, rel=0.01)
    assert row["data_fraction"] == pytest.approx(0.25, rel=0.01)


def test_sums_go_on_after_a_stop(meter: Meter) -> None:
    """A row over four steps, stopped after two, is that of one run: means of 1, 2, 3, 6 and of 5."""
    before, after = meter, Meter(torch.device("cpu"), step=2, samples_per_step=4)
    for value in (1.0, 2.0):
        before.add({"loss": torch.tensor(value)})
    before.add({"rank": 5})
    after.restore(before.state())
    for value in (3.0, 6.0):
        after.add({"loss": torch.tensor(value)})
    row = after.row(4)
    assert (row["loss"], row["rank"]) == (3.0, 5.0)
