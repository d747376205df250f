"""What an evaluation says of each ability: success in the suite's tasks by ability, split and level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embodied.evaluation.summary import pooled_interval
from envs.tasks import ABILITIES, HELD_OUT, LEVELS

SPLITS = ("learned", "held-out")
Entry = dict[str, Any]
"""An ability on one split, as `ability_profile` gives it."""


@dataclass(frozen=True, kw_only=True)
class AbilityTask:
    """What a task of the suite is: its ability, one of SPLITS, and its level."""

    ability: str
    split: str
    level: int


SUITE = {
    f"{ability}-{level}{suffix}": AbilityTask(ability=ability, split=split, level=level)
    for ability in ABILITIES
    for split, suffix in zip(SPLITS, ("", HELD_OUT), strict=True)
    for level in LEVELS
}


def parse_task(name: str) -> AbilityTask | None:
    """Return what a task's name says, None for a task that is not of the suite."""
    return SUITE.get(name)


def ability_profile(
    tasks: Sequence[Mapping[str, Any]], floors: Mapping[str, Mapping[str, Any]]
) -> list[Entry]:
    """Sum up a result's tasks by ability and split; empty where none is of the suite.

    tasks, and those of each floor: as `summarise` gives them. An entry has `ability`, `split`, `success_rate`
    (mean over its levels), `successes`, `episodes`, `wilson_low` and `wilson_high` (`pooled_interval`; None
    without one), `floors` (their mean success on the same tasks) and `by_level` (success by level, as text).
    """
    entries = []
    for ability in ABILITIES:
        for split in SPLITS:
            own = [task for task in tasks if _is_of(task, ability, split)]
            if own:
                entries.append(_entry(ability, split, own, floors))
    return entries


def profile_lines(profile: Sequence[Entry]) -> list[list[str]]:
    """Return the profile as lines of a table, the first of which names the columns."""
    floors = list(dict.fromkeys(floor for entry in profile for floor in entry["floors"]))
    levels = [str(level) for level in LEVELS if any(str(level) in entry["by_level"] for entry in profile)]
    head = ["ability", "split", "success", "95 % interval", *(f"level {level}" for level in levels), *floors]
    return [head, *(_line(entry, levels, floors) for entry in profile)]


def _is_of(task: Mapping[str, Any], ability: str, split: str) -> bool:
    found = parse_task(task["task"])
    return found is not None and (found.ability, found.split) == (ability, split)


def _entry(
    ability: str,
    split: str,
    own: Sequence[Mapping[str, Any]],
    floors: Mapping[str, Mapping[str, Any]],
) -> Entry:
    by_level = {SUITE[task["task"]].level: task["success_rate"] for task in own}
    low, high = pooled_interval(own)
    names = {task["task"] for task in own}
    return {
        "ability": ability,
        "split": split,
        "success_rate": _mean(own),
        "successes": sum(task["successes"] for task in own),
        "episodes": sum(task["episodes"] for task in own),
        "wilson_low": low,
        "wilson_high": high,
        "floors": {
            name: _mean(same)
            for name, floor in floors.items()
            if (same := [task for task in floor["tasks"] if task["task"] in names])
        },
        "by_level": {str(level): by_level[level] for level in sorted(by_level)},
    }


def _mean(tasks: Sequence[Mapping[str, Any]]) -> float:
    return sum(task["success_rate"] for task in tasks) / len(tasks)


def _line(entry: Entry, levels: Sequence[str], floors: Sequence[str]) -> list[str]:
    low, high = entry["wilson_low"], entry["wilson_high"]
    return [
        entry["ability"],
        entry["split"],
        f"{entry['success_rate']:.0%}",
        "" if low is None else f"{low:.0%} to {high:.0%}",
        *(_percent(entry["by_level"].get(level)) for level in levels),
        *(_percent(entry["floors"].get(floor)) for floor in floors),
    ]


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.0%}"
