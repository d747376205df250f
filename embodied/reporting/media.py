"""Films inside the page: data URIs within a budget of bytes, a success and a failure of each task first."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import av
from av.error import FFmpegError
from PIL import Image

from embodied.reporting.run_folder import Film

JPEG_QUALITY = 85


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A film as it stands in the page: a video with a poster, or a filmstrip; data URIs."""

    film: Film
    video: str | None = None
    image: str = ""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What fits: films as `shown`, how many are strips of pictures instead, how many are left out."""

    shown: list[Embedded]
    as_strips: int
    left_out: int


def select_films(films: Sequence[Film], budget: int) -> Selection:
    """Embed as many films as fit into `budget` bytes of page, filmstrips where films do not fit."""
    shown, as_strips, left_out = [], 0, 0
    for film in _in_turn(films):
        embedded = next((one for one in _forms(film) if _size(one) <= budget), None)
        if embedded is None:
            left_out += 1
            continue
        budget -= _size(embedded)
        as_strips += embedded.video is None
        shown.append(embedded)
    order = {id(film): place for place, film in enumerate(films)}
    shown.sort(key=lambda embedded: order[id(embedded.film)])
    return Selection(shown=shown, as_strips=as_strips, left_out=left_out)


def _in_turn(films: Iterable[Film]) -> list[Film]:
    """The first success and failure of every task, then the second ones, and so on."""
    counters: dict[tuple[str, bool], count] = {}
    ranked = [
        (next(counters.setdefault((film.row["task"], film.row["success"]), count())), film) for film in films
    ]
    return [film for _, film in sorted(ranked, key=lambda pair: pair[0])]


def _forms(film: Film) -> Iterable[Embedded]:
    """The film, then its filmstrip: whichever of them can be read."""
    if (video := film_form(film)) is not None:
        yield video
    if film.strip is not None and (strip := picture_form(film.strip)) is not None:
        yield Embedded(film=film, image=strip)


def film_form(film: Film) -> Embedded | None:
    """The film with its poster, None if there is none that can be read."""
    if film.film is None or (poster := last_frame(film.film)) is None:
        return None
    video = data_uri("video/mp4", film.film.read_bytes())
    return Embedded(film=film, video=video, image=data_uri("image/jpeg", poster))


def _size(embedded: Embedded) -> int:
    return len(embedded.video or "") + len(embedded.image)


def last_frame(film: Path) -> bytes | None:
    """The last picture of a film as JPEG, which shows how the episode ended; None if it cannot be read."""
    picture = None
    try:
        with av.open(str(film)) as container:
            for frame in container.decode(video=0):
                picture = frame
    except (FFmpegError, IndexError):
        return None
    return None if picture is None else _jpeg(picture.to_image())


def picture_form(picture: Path) -> str | None:
    """A picture as an address that needs no file, None if it cannot be read."""
    try:
        with Image.open(picture) as image:
            return data_uri("image/jpeg", _jpeg(image.convert("RGB")))
    except OSError:
        return None


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=JPEG_QUALITY)
    return file.getvalue()


def data_uri(kind: str, content: bytes) -> str:
    """`content` as an address that needs no file: `data:<kind>;base64,...`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
