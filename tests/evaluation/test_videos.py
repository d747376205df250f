from pathlib import Path

import av
import numpy as np

from embodied.evaluation.videos import filmstrip, save_recordings
from embodied.rollout import Episode, EpisodeResult

FRAMES = np.stack([np.full((16, 32, 3), brightness, np.uint8) for brightness in (0, 100, 200)])


def test_filmstrip_shows_first_to_last_frame_above_the_caption() -> None:
    strip = np.asarray(filmstrip(FRAMES, columns=2, caption="go east"))
    assert strip.shape[1] == 2 * 32 + 4
    assert strip.shape[0] > 16
    assert (strip[:16, :32] == 0).all()
    assert (strip[:16, -32:] == 200).all()
    assert (strip[16:] < 128).any()


def test_filmstrip_without_caption_is_as_high_as_its_frames() -> None:
    assert filmstrip(FRAMES, columns=3).size == (3 * 32 + 2 * 4, 16)


def test_recorded_episodes_become_films(tmp_path: Path) -> None:
    recorded = EpisodeResult(
        episode=Episode(task="east", seed=7), instruction="go", success=True, frames=FRAMES
    )
    unrecorded = EpisodeResult(episode=Episode(task="east", seed=8))
    (film,) = save_recordings([recorded, unrecorded], tmp_path / "videos")
    assert film.name == "east_7_success.mp4"
    assert film.with_suffix(".png").is_file()
    with av.open(str(film)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3
