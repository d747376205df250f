"""The page in headless Chromium: on a phone and on a desktop, in the light and in the dark."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embodied.config import ReportConfig
from embodied.reporting.browser import INSTALL_LINE, Page, find_browser, open_browser
from embodied.reporting.report import report
from tests.reporting.conftest import evaluation, write_evaluation, write_json

OUTSIDE = """
[...document.querySelectorAll("body *")].filter(element => {
  const box = element.getBoundingClientRect();
  const inScroller = element.closest(".scroll") && !element.matches(".scroll");
  const hidden = box.width === 0 || box.height === 0;
  const isOutside = box.right > document.documentElement.clientWidth + 0.5 || box.left < -0.5;
  return isOutside && !hidden && !inScroller;
}).map(element => element.outerHTML.slice(0, 120))
"""
CUT_OFF = """
[...document.querySelectorAll("body *")].filter(element => {
  const style = getComputedStyle(element);
  const cuts = ["hidden", "clip"].includes(style.overflowX) && element.namespaceURI.endsWith("xhtml");
  return cuts && element.scrollWidth > element.clientWidth + 1;
}).map(element => element.outerHTML.slice(0, 120))
"""
SVG_TEXT_OUTSIDE = """
[...document.querySelectorAll("svg text")].filter(text => {
  const box = text.getBoundingClientRect(), card = text.closest("figure, .bars").getBoundingClientRect();
  return box.left < card.left || box.right > card.right + 0.5 || box.bottom > card.bottom + 0.5;
}).map(text => text.textContent)
"""
LOW_CONTRAST = """
(() => {
  const parse = color => color.match(/[\\d.]+/g).map(Number);
  const light = channel => channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) =>
    0.2126 * light(r / 255) + 0.7152 * light(g / 255) + 0.0722 * light(b / 255);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(e).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.querySelector("body"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.matches("script, style")) continue;
    const style = getComputedStyle(element);
    const ink = parse(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [luminance(ink), luminance(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.add(walker.currentNode.data.trim().slice(0, 40));
  }
  return [...found];
})()
"""
SCHEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
WIDTHS = pytest.mark.parametrize("width", [390, 1400])


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if find_browser() is None and os.getuid() != 0:
        pytest.skip(INSTALL_LINE)
    with open_browser() as page:
        yield page


@pytest.fixture(scope="module")
def file(quickstart_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("report") / "report.html"
    report(ReportConfig(run=quickstart_folder, output=output))
    return output


def open_all(page: Page, file: Path, width: int, dark: bool = False) -> None:
    """Open the page with everything unfolded."""
    page.open(file, width=width, dark=dark)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


def ask(page: Page, script: str) -> Any:
    return page.evaluate(script)


@WIDTHS
@SCHEMES
def test_the_page_loads_without_a_word_on_the_console_or_a_request(
    page: Page, file: Path, width: int, dark: bool
) -> None:
    open_all(page, file, width, dark)
    assert ask(page, "document.title") == "quickstart: report"
    assert page.problems() == []
    assert page.requests() == [file.as_uri()]
    assert (
        ask(page, "performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:')).length")
        == 0
    )


@WIDTHS
def test_nothing_is_cut_off_or_wider_than_the_window(page: Page, file: Path, width: int) -> None:
    open_all(page, file, width)
    assert ask(page, "innerWidth") == width
    assert ask(page, "document.documentElement.scrollWidth") <= width
    assert ask(page, OUTSIDE) == []
    assert ask(page, CUT_OFF) == []
    assert ask(page, SVG_TEXT_OUTSIDE) == []


def test_those_checks_find_what_is_too_wide(page: Page, file: Path) -> None:
    open_all(page, file, 390)
    page.evaluate("document.querySelector('h1').style.width = '500px'")
    assert len(ask(page, OUTSIDE)) == 1
    assert ask(page, "document.documentElement.scrollWidth") > 390


@SCHEMES
def test_text_has_the_contrast_of_wcag_aa(page: Page, file: Path, dark: bool) -> None:
    open_all(page, file, 1400, dark)
    background = ask(page, "getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(16, 18, 20)") == dark
    assert ask(page, LOW_CONTRAST) == []
    page.evaluate(
        "document.querySelector('h1').style.color = getComputedStyle(document.body).backgroundColor"
    )
    assert ask(page, LOW_CONTRAST) == ["quickstart"]


def test_text_in_charts_is_no_smaller_than_eleven_pixels(page: Page, file: Path) -> None:
    for width in (390, 1400):
        open_all(page, file, width)
        heights = ask(
            page, "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
        )
        assert min(heights) >= 11


def test_a_film_plays_when_it_is_pressed(page: Page, file: Path) -> None:
    open_all(page, file, 390)
    wait = "new Promise(done => { const v = document.querySelector('video'); const b = v.nextElementSibling;"
    assert ask(page, wait + "v.onplaying = () => done(v.videoWidth); b.click(); })") == 96
    assert ask(page, "document.querySelector('.screen button').getAttribute('aria-label')").startswith(
        "Pause: "
    )
    assert page.problems() == []


def test_a_picture_or_film_has_words_for_those_who_do_not_see_it(page: Page, file: Path) -> None:
    open_all(page, file, 390)
    unnamed = "img:not([alt]), video:not([aria-label]), svg:not([aria-label]):not([aria-hidden]):not(svg svg)"
    nameless = f"[...document.querySelectorAll('{unnamed}')].map(e => e.outerHTML.slice(0, 99))"
    hidden = f"{nameless}.filter(html => !html.includes('bar-axis'))"
    assert ask(page, hidden) == ask(page, nameless.replace(unnamed, ".bar-axis svg"))


def test_a_run_with_parts_missing_fits_as_well(page: Page, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation")
    for name in ("a", "b", "c"):
        checkpoint = {"sha256": name * 64, "training_seed": None}
        write_json(tmp_path / f"a-long-name-of-a-checkpoint-{name}.json", evaluation(checkpoint=checkpoint))
    report(ReportConfig(run=tmp_path, media_mb=0.002))
    open_all(page, tmp_path / "report.html", 390)
    assert ask(page, "document.documentElement.scrollWidth") <= 390
    assert ask(page, OUTSIDE) == []
    assert page.problems() == []


def test_the_page_works_without_scripts(page: Page, file: Path) -> None:
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(file, width=390, dark=False)
        assert ask(page, "[...document.querySelectorAll('video')].every(film => film.controls)")
    finally:
        page.send("Emulation.setScriptExecutionDisabled", value=False)
