"""The report's pictures for the README: a run's page on a phone and on a desktop, light above dark.

    python scripts/report_screenshots.py runs/quickstart

Cost: ten seconds, and Chromium. Writes docs/report_phone.png and docs/report_desktop.png, each the top of the
page in both colour schemes, and says how large they are: expect less than 400 kB each.
"""

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image

from embodied.config import ReportConfig
from embodied.reporting.browser import Page, open_browser
from embodied.reporting.report import report

SIZES = {"phone": (390, 1900), "desktop": (1400, 1900)}
"""Width and height in CSS pixels of what is shown."""

COLORS = 256
"""Enough for flat colours and text; films lose a little."""


def picture(page: Page, file: Path, size: tuple[int, int], folder: Path, *, dark: bool) -> Image.Image:
    """The top of the page in one colour scheme."""
    page.open(file, width=size[0], dark=dark)
    page.resize(*size)
    page.screenshot(folder / "page.png")
    return Image.open(io.BytesIO((folder / "page.png").read_bytes())).convert("RGB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, open_browser() as page:
        file = Path(temporary) / "report.html"
        report(ReportConfig(run=args.run, output=file))
        for name, (width, height) in SIZES.items():
            shots = [picture(page, file, (width, height), file.parent, dark=dark) for dark in (False, True)]
            joined = Image.new("RGB", (2 * width, height))
            for index, shot in enumerate(shots):
                joined.paste(shot, (index * width, 0))
            path = args.docs / f"report_{name}.png"
            few = joined.quantize(COLORS, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
            few.save(path, optimize=True)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
