"""Line charts as inline SVG: real text, colours and fonts of the page around them, no script.

A chart is drawn WIDTH by HEIGHT for a column about that wide, so that its text stays as large as it is meant
to be on a phone and on a desk.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from embodied.reporting.formats import number
from embodied.reporting.templating import render

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 348, 10, 172
MOST_POINTS = 300
LOG_RATIO = 30.0
"""A quantity that spans more than this factor is drawn on a logarithmic axis."""

XY = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line: name, points (x, y) in the order of x, an interval for each or none, number of its colour."""

    label: str
    points: Sequence[XY]
    intervals: Sequence[XY] = ()
    color: int = 0


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range of values on a range of the picture."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where `value` lies in the picture."""
        low, high, value = (
            map(math.log10, (self.low, self.high, value))
            if self.logarithmic
            else (self.low, self.high, value)
        )
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values on the axis."""
        return log_ticks(self.low, self.high) if self.logarithmic else linear_ticks(self.low, self.high)


def linear_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` + 1 multiples of 1, 2 or 5 times a power of ten in [low, high]; low < high."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Powers of ten in [low, high], with their multiples by 2 and 5 where there is room for them."""
    for factors in ((1, 2, 5), (1, 3), (1,)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [float(f"{factor * 10.0**power:.12g}") for power in powers for factor in factors]
        inside = [value for value in values if low * 0.999 <= value <= high * 1.001]
        if len(inside) <= most:
            return inside
    return inside[:: math.ceil(len(inside) / most)]


def thin_out(points: Sequence[XY], most: int = MOST_POINTS) -> list[XY]:
    """At most `most` points, each the mean of as many successive ones; the last x is kept."""
    size = math.ceil(len(points) / most)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def value_axis(values: Sequence[float], *, bounds: XY | None = None) -> Axis:
    """The vertical axis: `bounds` if given, logarithmic over a wide range, else from zero if that is near."""
    if bounds is not None:
        return Axis(low=bounds[0], high=bounds[1], start=BOTTOM, end=TOP)
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_RATIO:
        return Axis(low=low / 1.15, high=high * 1.15, start=BOTTOM, end=TOP, logarithmic=True)
    if 0 <= low < 0.5 * high:
        return Axis(low=0.0, high=high * 1.05, start=BOTTOM, end=TOP)
    margin = 0.1 * (high - low) or abs(high) * 0.1 or 1.0
    return Axis(low=low - margin, high=high + margin, start=BOTTOM, end=TOP)


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "step",
    bounds: XY | None = None,
    tick_text: Callable[[float], str] = number,
) -> Markup:
    """Draw `series`, each of at least one point, over a common horizontal axis that begins at zero."""
    thinned = [one if one.intervals else replace(one, points=thin_out(one.points)) for one in series]
    values = [y for one in thinned for _, y in one.points]
    y_axis = value_axis(values, bounds=bounds)
    last = max(x for one in thinned for x, _ in one.points)
    x_axis = Axis(low=0.0, high=last or 1.0, start=LEFT, end=RIGHT)
    return render(
        "line_chart.svg",
        title=title,
        description=_describe(series, x_label, tick_text),
        x_label=x_label,
        x_ticks=[(x_axis.place(x), f"{x:,.0f}") for x in linear_ticks(0.0, x_axis.high, most=4)],
        y_ticks=[(y_axis.place(y), tick_text(y)) for y in y_axis.ticks()],
        logarithmic=y_axis.logarithmic,
        lines=[_line(one, x_axis, y_axis) for one in thinned],
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
    )


def _line(series: Series, x_axis: Axis, y_axis: Axis) -> dict:
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in series.points]
    bars = [
        (x_axis.place(x), y_axis.place(low), y_axis.place(high))
        for (x, _), (low, high) in zip(series.points, series.intervals, strict=bool(series.intervals))
    ]
    return {
        "color": series.color,
        "path": " ".join(f"{x:.1f},{y:.1f}" for x, y in places),
        "end": places[-1],
        "dots": places if series.intervals else [],
        "bars": bars,
    }


def _describe(series: Sequence[Series], x_label: str, tick_text: Callable[[float], str]) -> str:
    """The chart in words, for those who do not see it."""
    parts = []
    for one in series:
        (first_x, first_y), (last_x, last_y) = one.points[0], one.points[-1]
        name = f"{one.label}: " if len(series) > 1 else ""
        parts.append(
            f"{name}{tick_text(first_y)} at {x_label} {first_x:,.0f}, "
            f"{tick_text(last_y)} at {x_label} {last_x:,.0f}"
        )
    return "; ".join(parts)
