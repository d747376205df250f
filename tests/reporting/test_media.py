"""Films in the page: which fit, in which form, and what stands for those that do not."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embodied.reporting.media import Embedded, last_frame, select_films
from embodied.reporting.run_folder import Film, read_run

PLENTY = 10**7


@pytest.fixture
def films(quickstart_folder: Path) -> list[Film]:
    return read_run(quickstart_folder).evaluations[0].films


def size(embedded: Embedded) -> int:
    return len(embedded.video or "") + len(embedded.image)


def test_a_film_is_embedded_as_it_is(films: list[Film]) -> None:
    selection = select_films(films, PLENTY)
    assert (len(selection.shown), selection.as_strips, selection.left_out) == (4, 0, 0)
    kind, _, content = selection.shown[0].video.partition(",")
    assert kind == "data:video/mp4;base64"
    assert base64.b64decode(content) == films[0].film.read_bytes()


def test_its_poster_shows_how_it_ended(films: list[Film]) -> None:
    poster = np.asarray(Image.open(io.BytesIO(last_frame(films[0].film))))
    assert poster.shape == (32, 96, 3)
    assert poster.min() > 230


def test_the_budget_holds_and_what_is_left_out_is_counted(films: list[Film]) -> None:
    one = size(select_films(films[:1], PLENTY).shown[0])
    selection = select_films(films, int(2.5 * one))
    assert sum(map(size, selection.shown)) <= 2.5 * one
    assert len(selection.shown) + selection.left_out == 4
    assert select_films(films, 0).left_out == 4


def test_success_and_failure_of_each_task_come_before_second_ones(films: list[Film]) -> None:
    again = [films[0], films[0], films[1]]  # two failures, then a success
    one = max(size(embedded) for embedded in select_films(films, PLENTY).shown)
    shown = select_films(again, 2 * one).shown
    assert [embedded.film.row["success"] for embedded in shown[:2]] == [False, True]


def test_a_film_too_large_becomes_a_strip(films: list[Film], tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(films[0].film.read_bytes() + bytes(10**6))
    selection = select_films([Film(row=films[0].row, film=large, strip=films[0].strip)], 10**5)
    assert selection.as_strips == 1
    assert selection.shown[0].video is None
    assert selection.shown[0].image.startswith("data:image/jpeg;base64,")


def test_a_damaged_film_becomes_a_strip(films: list[Film], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no film")
    assert select_films([Film(row=films[0].row, film=damaged, strip=films[0].strip)], PLENTY).as_strips == 1
    assert select_films([Film(row=films[0].row, film=damaged, strip=damaged)], PLENTY).left_out == 1
