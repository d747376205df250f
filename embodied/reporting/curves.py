"""The section on training: what the log holds, drawn over the steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from embodied.evaluation.statistics import wilson_interval
from embodied.reporting import formats
from embodied.reporting.charts import Series, line_chart
from embodied.reporting.run_folder import Run, Training
from embodied.reporting.templating import render

MOST_LINES = 6


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How a logged quantity is drawn; from_zero: on a linear axis that begins at zero."""

    title: str
    unit: str = ""
    text: Callable[[float], str] = formats.number
    from_zero: bool = False


CURVES = {
    "loss": Curve(title="Loss"),
    "grad_norm": Curve(title="Gradient norm"),
    "lr": Curve(title="Learning rate", from_zero=True),
    "samples_per_s": Curve(title="Training speed", unit="samples/s", from_zero=True),
}
OTHER_CURVES = {
    "data_fraction": Curve(title="Time spent waiting for data", text=formats.percent, from_zero=True)
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawn quantity: title, drawing, unit, last value (of one run), names of lines that are no runs."""

    title: str
    svg: Markup
    unit: str = ""
    last: str = ""
    legend: list[str] = field(default_factory=list)


def training(run: Run, media: int) -> Markup | None:
    """Loss, gradient norm, learning rate, speed and success over the steps; other metrics folded away."""
    runs = [one for one in run.trainings if one.points]
    if not runs:
        return None
    rest = {name: Curve(title=name.replace("_", " ")) for name in _other_metrics(runs)}
    charts = [_success_chart(runs), *(_draw(name, curve, runs) for name, curve in CURVES.items())]
    others = [_draw(name, curve, runs) for name, curve in (OTHER_CURVES | rest).items()]
    return render(
        "training.html",
        charts=[chart for chart in charts if chart],
        others=[chart for chart in others if chart],
        names=[one.label for one in runs],
    )


def _points(one: Training, name: str) -> list[tuple[float, float]]:
    return [
        (float(point["step"] or 0), float(value))
        for point in one.points
        if (value := point.get(name)) is not None
    ]


def _draw(name: str, curve: Curve, runs: Sequence[Training]) -> Chart | None:
    drawn = [(color, one, _points(one, name)) for color, one in enumerate(runs)]
    series = [Series(label=one.label, points=points, color=color) for color, one, points in drawn if points]
    if not series:
        return None
    highest = max(y for one in series for _, y in one.points)
    bounds = (0.0, 1.05 * highest) if curve.from_zero and highest > 0 else None
    return Chart(
        title=curve.title,
        unit=curve.unit,
        last=curve.text(series[0].points[-1][1]) if len(runs) == 1 else "",
        svg=line_chart(series, title=curve.title, bounds=bounds, tick_text=curve.text),
    )


def _other_metrics(runs: Sequence[Training]) -> list[str]:
    """Logged quantities that have no chart of their own and are no copy of the loss."""
    names = dict.fromkeys(name for one in runs for point in one.points for name in point)
    known = {"step", *CURVES, *OTHER_CURVES}
    return [
        name
        for name in names
        if name not in known
        and name.split("/")[0] != "success"
        and any(_points(one, name) != _points(one, "loss") for one in runs)
    ]


def _success_chart(runs: Sequence[Training]) -> Chart | None:
    """The mean success of each run, with its interval; of a single run also that of every task."""
    series = [_success_series(one, color) for color, one in enumerate(runs)]
    series = [one for one in series if one.points]
    if not series:
        return None
    names = dict.fromkeys(name for point in runs[0].points for name in point)
    tasks = [name for name in names if name.startswith("success/")]
    is_split = len(runs) == 1 and 1 < len(tasks) < MOST_LINES
    if is_split:
        series = [replace(series[0], label="mean")]
        series += [
            Series(label=name.partition("/")[2], points=_points(runs[0], name), color=color)
            for color, name in enumerate(tasks, start=1)
        ]
    title = "Success during training"
    return Chart(
        title=title,
        last=formats.percent(series[0].points[-1][1]) if len(runs) == 1 else "",
        legend=[one.label for one in series] if is_split else [],
        svg=line_chart(series, title=title, bounds=(0.0, 1.0), tick_text=formats.percent),
    )


def _success_series(one: Training, color: int) -> Series:
    """Success over steps with Wilson intervals, where the settings tell how many episodes there were."""
    points = _points(one, "success")
    tasks = sum(key.startswith("success/") for key in next((p for p in one.points if "success" in p), {}))
    episodes = int(one.settings.get("eval_episodes") or 0) * tasks
    intervals = [wilson_interval(round(rate * episodes), episodes) for _, rate in points] if episodes else []
    return Series(label=one.label, points=points, intervals=intervals, color=color)
