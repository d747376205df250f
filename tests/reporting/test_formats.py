"""Figures as the report prints them."""

import pytest

from embodied.reporting import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (25677, "25,677"),
        (99.96, "100"),
        (17.44, "17.4"),
        (0.01082, "0.0108"),
        (0.00034227, "3.42e-4"),
        (1e-5, "1e-5"),
        (-0.5, "-0.5"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert formats.number(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(45, "45 s"), (1712, "29 min"), (7500, "2 h 05 min")])
def test_durations_take_the_unit_that_fits(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(3872816, "3.9M"), (12, "12"), (2_100_000_000, "2.1B")])
def test_parameters_are_counted_in_thousands_millions_billions(count: int, text: str) -> None:
    assert formats.parameters(count) == text


def test_successive_seeds_are_a_span() -> None:
    assert formats.span([9, 1, 2, 3, 3]) == "1 to 3, 9"


def test_an_interval_names_its_unit_once() -> None:
    assert formats.interval(0.911, 0.997) == "91 to 100 %"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("/opt/env/bin/embodied train '--env.task=a b'", "embodied train '--env.task=a b'"),
        ("/opt/embodied/cli.py train --steps=1", "python -m embodied.cli train --steps=1"),
        ("", "''"),
    ],
)
def test_a_command_begins_with_the_programs_name(line: str, text: str) -> None:
    assert formats.command(line) == text


def test_a_machine_is_one_line_however_it_was_noted() -> None:
    assert formats.machine("2 cores, A") == "2 cores, A"
    described = {"cores": 2, "threads": 1, "cpu": "A", "accelerators": ["H"], "system": None}
    assert formats.machine(described) == "H, A, 2 cores, threads in use: 1"
