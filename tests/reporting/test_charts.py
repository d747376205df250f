"""Axes and lines of the charts, with places computed by hand."""

from xml.etree import ElementTree

import pytest

from embodied.reporting.charts import (
    BOTTOM,
    TOP,
    Axis,
    Series,
    line_chart,
    linear_ticks,
    log_ticks,
    thin_out,
    value_axis,
)

LINE = Series(label="a", points=[(0, 1.0), (100, 2.0)])


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 4000, [0, 1000, 2000, 3000, 4000]),
        (0.9, 2.1, [1, 1.5, 2]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_linear_ticks_are_round_and_inside(low: float, high: float, ticks: list[float]) -> None:
    assert linear_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.02, 1, [0.02, 0.05, 0.1, 0.2, 0.5, 1]),
        (0.001, 1, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1][::2]),
        (1e-9, 1, [1e-9, 1e-7, 1e-5, 1e-3, 1e-1]),
    ],
)
def test_log_ticks_are_round_and_few(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_a_wide_range_of_positive_values_gets_a_log_axis() -> None:
    assert value_axis([0.01, 1.0]).logarithmic
    assert not value_axis([0.5, 1.0]).logarithmic
    assert not value_axis([0.0, 1.0]).logarithmic


def test_a_log_axis_puts_the_geometric_mean_in_the_middle() -> None:
    axis = Axis(low=1, high=100, start=0, end=10, logarithmic=True)
    assert axis.place(10) == pytest.approx(5)


@pytest.mark.parametrize("values", [[3.0], [0.0], [-2.0, -2.0], [0.0, 0.0]])
def test_equal_values_still_have_an_axis(values: list[float]) -> None:
    axis = value_axis(values)
    assert TOP <= axis.place(values[0]) <= BOTTOM


def test_many_points_become_means() -> None:
    assert thin_out([(1, 1.0), (2, 3.0), (3, 5.0), (4, 7.0)], most=2) == [(2, 2.0), (4, 6.0)]
    assert thin_out([(1, 1.0)], most=2) == [(1, 1.0)]


def test_a_chart_is_xml_with_real_text_and_says_what_it_shows() -> None:
    svg = ElementTree.fromstring(line_chart([LINE], title="Loss <b>", tick_text="{:g}".format))
    assert svg.get("aria-label") == "Loss <b>: 1 at step 0, 2 at step 100"
    texts = [element.text for element in svg.iter("text")]
    assert {"step", "0", "100", "1", "2"} <= set(texts)


def test_a_line_goes_from_corner_to_corner() -> None:
    series = Series(label="a", points=[(0, 0.0), (100, 1.0)])
    svg = ElementTree.fromstring(line_chart([series], title="t", bounds=(0.0, 1.0)))
    assert svg.find("g/polyline").get("points") == "46.0,172.0 348.0,10.0"


def test_intervals_are_drawn_from_low_to_high() -> None:
    series = Series(label="a", points=[(100, 0.5)], intervals=[(0.0, 1.0)])
    svg = ElementTree.fromstring(line_chart([series], title="t", bounds=(0.0, 1.0)))
    line = svg.find("g/line[@class='interval']")
    assert (line.get("y1"), line.get("y2")) == ("172.0", "10.0")
