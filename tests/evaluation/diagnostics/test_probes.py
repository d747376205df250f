import numpy as np
import pytest

from embodied.evaluation.diagnostics.probes import probe, probe_scenes, summarise_probes
from embodied.evaluation.diagnostics.regression import ridge
from embodied.evaluation.diagnostics.scenes import Stage
from tests.evaluation.diagnostics.conftest import PointWorld


def test_a_probe_is_scored_per_coordinate_on_the_frames_held_out() -> None:
    draw = np.random.default_rng(0)
    features, episodes = draw.normal(size=(200, 3)), np.arange(200) // 10
    # Readable; not readable; hardly varies.
    targets = np.stack([2 * features[:, 0], draw.normal(size=200), 1e-3 * draw.normal(size=200)], axis=1)
    is_held_out = episodes >= 15
    targets[is_held_out, 0] += 0.5
    readable, unreadable, constant = probe(ridge, features, targets, episodes, is_held_out)
    variance = targets[is_held_out, 0].var()
    assert readable == pytest.approx(1 - 0.25 / variance, abs=0.02)  # the offset, unknown to the fit, counts
    assert unreadable is not None
    assert unreadable < 0.1
    assert constant is None


def test_a_latent_that_is_the_position_explains_it_and_an_untrained_one_does_not(stage: Stage) -> None:
    found = probe_scenes(PointWorld(chunk_steps=2), [stage], episodes=16, seed=100)
    assert {(row["task"], row["landmark"]) for row in found["landmarks"]} == {("east", "point")}
    for row in found["landmarks"]:
        x = 0
        assert row["r2"][x] > 0.95
        assert row["floor"][x] < 0.1
    assert [row["probe"] for row in found["summary"]] == ["ridge", "mlp"]


def test_the_summary_is_a_mean_over_what_varies() -> None:
    rows = [
        {"task": "a", "landmark": "object", "probe": "ridge", "r2": [0.9, None], "floor": [0.5, None]},
        {"task": "b", "landmark": "object", "probe": "ridge", "r2": [0.7, 0.8], "floor": [0.6, 0.1]},
        {"task": "a", "landmark": "goal", "probe": "ridge", "r2": [None], "floor": [None]},
    ]
    first, second = summarise_probes(rows)
    assert (first["r2"], first["floor"]) == pytest.approx((0.8, 0.4))
    assert first["unexplained"] == pytest.approx(0.2 / 0.6)
    assert (second["r2"], second["floor"], second["unexplained"]) == (None, None, None)
