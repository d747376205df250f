import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

from envs.metaworld_tasks import INSTRUCTIONS, MT10, MT50, TASK_SETS, parse_tasks


def test_mt50_is_meta_worlds_fifty_tasks() -> None:
    assert len(MT50) == len(set(MT50)) == 50
    assert {f"{task}-v3" for task in MT50} == set(ALL_V3_ENVIRONMENTS)


def test_mt10_is_meta_worlds_own() -> None:
    assert tuple(f"{task}-v3" for task in MT10) == tuple(MT10_V3)


def test_every_task_has_an_instruction_of_its_own() -> None:
    assert len(set(INSTRUCTIONS.values())) == 50


@pytest.mark.parametrize(
    ("text", "tasks"),
    [("mt10", MT10), ("mt50", MT50), ("reach", ("reach",)), (" push , reach-v3", ("push", "reach"))],
)
def test_task_sets_and_comma_lists_are_understood(text: str, tasks: tuple[str, ...]) -> None:
    assert parse_tasks(text) == tasks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reech", "'reech'.*did you mean reach"),
        ("reach,mt1", "'mt1'.*mt10"),
        ("xyzzy", "'xyzzy'.*such as reach"),
        ("", "expected mt10, mt50 or a comma list"),
        ("push,push", "each task once"),
    ],
)
def test_a_wrong_list_names_the_bad_task_and_close_matches(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_tasks(text)


def test_a_task_set_is_not_an_element_of_a_list() -> None:
    assert set(TASK_SETS).isdisjoint(MT50)
