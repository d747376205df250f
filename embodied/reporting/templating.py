"""The page's templates. Every value is escaped unless it is Markup, which only templates make."""

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from embodied.reporting import formats

FILTERS = (formats.span, formats.machine, formats.command, formats.number)
FIGURES = (formats.percent, formats.interval, formats.duration, formats.megabytes)
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def _unbroken(figure: Callable[..., str]) -> Callable[..., str]:
    """The same figure, kept on one line with its unit."""
    return lambda *values: figure(*values).replace(" ", NO_BREAK_SPACE)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("embodied.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in FILTERS}
    environment.filters |= {function.__name__: _unbroken(function) for function in FIGURES}
    return environment


ENVIRONMENT = _environment()


def render(template: str, **values: Any) -> Markup:
    """Fill a template of this folder."""
    return Markup(ENVIRONMENT.get_template(template).render(**values))
