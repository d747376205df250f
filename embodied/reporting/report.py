"""`embodied report RUN`: one HTML file that shows a run, with everything it needs inside it."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from markupsafe import Markup

from embodied.config import ReportConfig
from embodied.errors import UserError
from embodied.reporting.run_folder import read_run
from embodied.reporting.sections import SECTIONS, header, missing_lines
from embodied.reporting.templating import render

REPORT_FILE = "report.html"


def report(config: ReportConfig) -> dict[str, Any]:
    """Write the report of a run's folder and print where it is.

    Returns `report` (the file), `bytes`, `sections` (those shown), `left_out` (a line for each that is not)
    and `notes` (files that could not be read). Raises UserError if there is nothing to show, or no place to
    write to.
    """
    run = read_run(config.run)
    output = config.output or config.run / REPORT_FILE
    if output.is_dir():
        raise UserError(f"--output={output}: is a folder: expected a file, such as {output / REPORT_FILE}")
    found = [(section, section.render(run, int(config.media_mb * 1e6))) for section in SECTIONS]
    left_out = missing_lines(found)
    page = render(
        "page.html",
        title=run.root.resolve().name,
        header=header(run),
        sections=[(section, html) for section, html in found if html is not None],
        left_out=left_out,
        notes=run.notes,
    )
    _write(page, output)
    print(f"report          {output}")
    return {
        "report": str(output),
        "bytes": output.stat().st_size,
        "sections": [section.name for section, html in found if html is not None],
        "left_out": left_out,
        "notes": run.notes,
    }


def _write(page: Markup, output: Path) -> None:
    """Whole or not at all."""
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, output)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise UserError(
            f"--output={output}: expected a file in a folder that can be written: {error.strerror}"
        ) from error
