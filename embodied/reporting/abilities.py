"""The section on the ability suite: success per ability on both splits, and every failure."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from embodied.evaluation.abilities import ABILITIES, SPLITS, Entry, ability_profile, parse_task, profile_lines
from embodied.evaluation.summary import Row
from embodied.reporting.run_folder import Evaluation, Run, labels
from embodied.reporting.templating import render


def abilities(run: Run, media: int) -> Markup | None:
    """Per evaluation of the suite a bar for each ability and split, the table by level, and the failures."""
    named = zip(labels(run.evaluations), run.evaluations, strict=True)
    profiles = [
        described for label, evaluation in named if (described := _described(label, evaluation))["profile"]
    ]
    return render("abilities.html", profiles=profiles, splits=SPLITS) if profiles else None


def _described(label: str, evaluation: Evaluation) -> dict[str, Any]:
    profile = ability_profile(evaluation.result["tasks"], evaluation.floors)
    return {
        "label": label,
        "profile": profile,
        "abilities": _by_ability(profile),
        "floors": list(dict.fromkeys(floor for entry in profile for floor in entry["floors"])),
        "lines": profile_lines(profile),
        "failures": _failures(evaluation.rows),
    }


def _by_ability(profile: Sequence[Entry]) -> dict[str, list[Mapping[str, Any]]]:
    """The entries of each ability, with the colour of their split and their levels as numbers."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in profile:
        drawn = {
            **entry,
            "color": SPLITS.index(entry["split"]),
            "levels": [int(level) for level in entry["by_level"]],
        }
        found.setdefault(entry["ability"], []).append(drawn)
    return found


def _failures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Per ability with rows: its failures, how many episodes it has, and whether one names sub-goals."""
    found = []
    for ability in ABILITIES:
        own = [row for row in rows if (task := parse_task(row["task"])) and task.ability == ability]
        failed = [row for row in own if not row["success"]]
        has_stages = any(row.get("stages") for row in failed)
        found.append({"ability": ability, "rows": failed, "episodes": len(own), "has_stages": has_stages})
    return [one for one in found if one["rows"]]
