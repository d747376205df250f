import numpy as np
import pytest

from embodied.evaluation.diagnostics.scenes import Stage
from embodied.evaluation.diagnostics.surprise import film, separate, surprise_at_edits, surprise_of
from tests.evaluation.diagnostics.conftest import BRIGHTNESS_PER_METRE, PointWorld


def test_edits_are_seen_at_every_look_of_an_episode_that_goes_on_as_it_was(stage: Stage) -> None:
    filmed = film(PointWorld(), stage, 100, "expert")
    assert filmed is not None
    assert filmed.actions.shape == (2, 4, 2)  # before the tenth step, success, end two chunks of four
    assert list(filmed.seen) == [0, 4, 8]
    assert [look["agent_pos"][0] for look in filmed.seen.values()] == pytest.approx([0.0, 0.4, 0.8])
    edited = {kind: [look["agent_pos"][0] for look in looks] for kind, looks in filmed.edited.items()}
    assert edited["displaced"] == pytest.approx([0.9, 1.3])
    assert edited["repainted"] == pytest.approx([0.4, 0.8])


def test_an_episode_shorter_than_a_chunk_is_left_out(stage: Stage) -> None:
    assert film(PointWorld(chunk_steps=10), stage, 100, "expert") is None


@pytest.mark.parametrize("history", [1, 2])
def test_a_right_model_errs_at_edits_alone_and_by_their_size(stage: Stage, history: int) -> None:
    world = PointWorld(history=history)
    filmed = film(world, stage, 100, "expert")
    assert filmed is not None
    normal, edits = surprise_of(world, filmed)
    per_metre = BRIGHTNESS_PER_METRE
    np.testing.assert_allclose(normal["model"], 0.0, atol=1e-4)  # pictures round
    np.testing.assert_allclose(normal["copy"], (0.4 * per_metre) ** 2, rtol=0.05)
    displaced, repainted = edits["displaced"], edits["repainted"]
    # Beyond x = 1 pictures are white: the second displacement, from 0.8 to 1.3, shows 0.2 of itself.
    np.testing.assert_allclose(displaced["model"], [(0.5 * per_metre) ** 2, (0.2 * per_metre) ** 2], rtol=0.1)
    np.testing.assert_allclose(displaced["copy"], [(0.9 * per_metre) ** 2, (0.6 * per_metre) ** 2], rtol=0.05)
    np.testing.assert_allclose(displaced["pixels"], displaced["copy"], rtol=0.05)
    # Brightness 128 at x = 0, 178 at 0.4, 229 at 0.8; its negative 77 and 26.
    np.testing.assert_allclose(repainted["copy"], [(51 / 255) ** 2, (152 / 255) ** 2], rtol=0.05)
    np.testing.assert_allclose(repainted["model"], [(101 / 255) ** 2, (203 / 255) ** 2], rtol=0.05)


def surprises(*values: list[float]) -> list[dict[str, np.ndarray]]:
    return [{name: np.array(one) for name in ("model", "copy", "pixels")} for one in values]


def test_separation_counts_pairs_of_edited_and_normal_looks() -> None:
    normal, edited = surprises([0.0, 2.0], [1.0, 5.0]), surprises([3.0], [4.0])
    found = separate(normal, edited, seed=0)
    assert found["auroc"] == pytest.approx(6 / 8)  # only the normal 5 is above
    assert found["floors"] == {"copy": found["auroc"], "pixels": found["auroc"]}
    assert found["looks"] == 4
    assert (found["low"], found["high"]) == pytest.approx((0.5, 1.0))  # of the second episode, of the first


def test_every_edit_surprises_a_right_model(stage: Stage) -> None:
    found = surprise_at_edits(PointWorld(chunk_steps=3), [stage], episodes=4, seed=100)
    rows = [(row["edit"], row["task"], row["auroc"]) for row in found["edits"]]
    assert rows == [(edit, task, 1.0) for edit in ("displaced", "repainted") for task in ("all", "east")]
    assert found["episodes"] == 4
