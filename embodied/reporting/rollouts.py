"""The section on films: what was recorded, that of the ability suite by ability, failures apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from embodied.evaluation.abilities import ABILITIES, parse_task
from embodied.reporting.media import Embedded, select_films
from embodied.reporting.run_folder import Run
from embodied.reporting.templating import render

FEW_FILMS = 12


@dataclass(frozen=True, kw_only=True)
class Group:
    """Films under a heading, "" for none; parts: (heading, films), of which none is empty."""

    title: str
    parts: Sequence[tuple[str, Sequence[Embedded]]]


def rollouts(run: Run, media: int) -> Markup | None:
    """Films of successes and failures, with the instruction and, where rows have them, the sub-goals."""
    films = [film for evaluation in run.evaluations for film in evaluation.films]
    if not films:
        return None
    selection = select_films(films, media)
    groups = group_films(selection.shown)
    return render("rollouts.html", groups=groups, selection=selection, few=FEW_FILMS, budget=media)


def group_films(shown: Sequence[Embedded]) -> list[Group]:
    """Films of each ability, its failures before its successes; then those of other tasks, as they come."""
    by_ability: dict[str, list[Embedded]] = {ability: [] for ability in ABILITIES}
    others: list[Embedded] = []
    for embedded in shown:
        task = parse_task(embedded.film.row["task"])
        (others if task is None else by_ability[task.ability]).append(embedded)
    groups = [Group(title=ability, parts=_by_outcome(own)) for ability, own in by_ability.items() if own]
    title = "other tasks" if groups else ""
    return groups + ([Group(title=title, parts=[("", others)])] if others else [])


def _by_outcome(films: Sequence[Embedded]) -> list[tuple[str, list[Embedded]]]:
    parts = [
        (heading, [embedded for embedded in films if bool(embedded.film.row["success"]) == success])
        for heading, success in (("Failures", False), ("Successes", True))
    ]
    return [(heading, own) for heading, own in parts if own]
