"""The section on what a policy imagined and foresaw: pictures beside the real ones, surprise, candidates."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from embodied.reporting.charts import Series, line_chart
from embodied.reporting.curves import Chart
from embodied.reporting.media import film_form, picture_form
from embodied.reporting.run_folder import Film, Result, Run
from embodied.reporting.templating import render


def imagined(run: Run, media: int) -> Markup | None:
    """Per episode a sheet of moments, a film, sub-goals, and charts of surprise and of candidates' values."""
    if not run.imagined:
        return None
    shelf = _Shelf(media)
    results = []
    for result, folder in run.imagined:
        left_out = shelf.left_out
        episodes = [_episode(row, folder, shelf) for row in result["imagined"]]
        results.append({**result, "episodes": episodes, "left_out": shelf.left_out - left_out})
    return render("imagined.html", results=results, budget=media)


class _Shelf:
    """Bytes of the page that pictures may still take."""

    def __init__(self, budget: int) -> None:
        self._budget, self.left_out = budget, 0

    def fits(self, size: int) -> bool:
        """Whether there is room, which is then taken."""
        if size > self._budget:
            self.left_out += 1
            return False
        self._budget -= size
        return True


def _episode(row: Result, folder: Path, shelf: _Shelf) -> dict[str, Any]:
    strip = picture_form(folder / row["strip"])
    film = film_form(Film(row=row, film=folder / row["film"], strip=None))
    return {
        "row": row,
        "strip": strip if strip and shelf.fits(len(strip)) else None,
        "film": film if film and shelf.fits(len(film.video or "") + len(film.image)) else None,
        "charts": [chart for chart in (_surprise(row["looks"]), _values(row["looks"])) if chart],
    }


def _surprise(looks: Sequence[Result]) -> Chart | None:
    """Error of what was expected of every look, by source, over the episode."""
    names = list(dict.fromkeys(name for look in looks for name in look["surprise"]))
    series = {name: _points(looks, lambda look, name=name: look["surprise"][name]) for name in names}
    return _chart("Surprise", "squared error of latents", series)


def _values(looks: Sequence[Result]) -> Chart | None:
    """What the world model predicted for the candidates: the best, their mean, the worst, the one chosen."""
    chosen_from = [look for look in looks if look.get("values")]
    measures: dict[str, Callable[[Result], float | None]] = {
        "best": lambda look: max(look["values"]),
        "mean": lambda look: sum(look["values"]) / len(look["values"]),
        "worst": lambda look: min(look["values"]),
        "chosen": lambda look: None if look["chosen"] is None else look["values"][look["chosen"]],
    }
    series = {name: _points(chosen_from, measure) for name, measure in measures.items()}
    return _chart("Candidates", "predicted value", series)


def _points(looks: Sequence[Result], value: Callable[[Result], float | None]) -> list[tuple[float, float]]:
    return [(float(look["step"]), found) for look in looks if (found := value(look)) is not None]


def _chart(title: str, unit: str, points: dict[str, list[tuple[float, float]]]) -> Chart | None:
    series = [
        Series(label=name, points=places, color=color)
        for color, (name, places) in enumerate(points.items())
        if places
    ]
    if not series:
        return None
    legend = list(points)
    return Chart(title=title, unit=unit, legend=legend, svg=line_chart(series, title=title))
