"""The world model from pixels: its loss, its instructions, its teacher, and settings that it refuses."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from world_models.config import EPISODE_END, JEPAConfig, Sizes
from world_models.from_pixels import JEPA, Clip
from world_models.instructions import InstructionEncoder
from world_models.jepa import LossWeights
from world_models.outcomes import Outcomes
from world_models.teacher import FrozenTeacher


def config(**changes: Any) -> JEPAConfig:
    sizes = {"num_latents": 2, "latent_heads": 2, "dim": 16, "dynamics_depth": 1, "dynamics_heads": 2}
    return JEPAConfig(**{**sizes, "chunk_steps": 3, "goal_dim": 8, "directions": 16, **changes})


def make(teacher_dim: int = 0, **changes: Any) -> JEPA:
    torch.manual_seed(0)
    sizes = Sizes(cameras=2, action_dim=4, state_dim=5, vocabulary=259, teacher_dim=teacher_dim)
    return JEPA(config(**changes), sizes)


def make_clip(history: int = 1, steps: int = 2) -> Clip:
    """Three clips of two 16 px cameras."""
    draw = torch.Generator().manual_seed(1)
    return Clip(
        images=torch.rand(3, history + steps, 2, 3, 16, 16, generator=draw),
        chunks=torch.randn(3, steps, 3, 4, generator=draw),
        is_pad=torch.zeros(3, steps, dtype=torch.bool),
        instruction=(torch.full((3, 6), 80), torch.ones(3, 6, dtype=torch.bool)),
        outcomes=Outcomes(state=torch.randn(3, steps, 5, generator=draw)),
    )


def test_at_first_prediction_is_as_good_as_copying() -> None:
    """The dynamics begin by standing still, so both errors are one number."""
    _, metrics = make(history=2, rollout_steps=3).loss(make_clip(history=2, steps=3))
    assert metrics["dynamics_loss"] == metrics["copy_error"]
    assert metrics["copy_error"] > 0


def test_what_lies_behind_the_end_is_not_predicted() -> None:
    """Another last picture changes the error, unless it is padding."""
    model, clip = make(loss_weights=LossWeights(sigreg=0)), make_clip()
    ended = dataclasses.replace(clip, is_pad=torch.tensor([[False, True]] * 3))
    other = clip.images.clone()
    other[:, -1] = 0
    error = model.loss(ended)[1]["dynamics_loss"]
    assert model.loss(dataclasses.replace(ended, images=other))[1]["dynamics_loss"] == error
    assert model.loss(dataclasses.replace(clip, images=other))[1]["dynamics_loss"] != error


def test_weights_scale_the_parts_of_the_loss() -> None:
    """With weights 2, 0, 0, 0, 0 and 3 the loss is that sum of its parts."""
    weights = LossWeights(dynamics=2, sigreg=0, reward=0, success=0, value=0, state=3)
    loss, metrics = make(loss_weights=weights).loss(make_clip())
    assert float(loss.detach()) == pytest.approx(
        float(2 * metrics["dynamics_loss"] + 3 * metrics["state_loss"])
    )


def with_ending(clip: Clip) -> Clip:
    """Of three steps to the first moment, the last lies behind the episode's end."""
    is_step_pad = torch.tensor([[False, False, True], [True, True, True]]).expand(3, 2, 3)
    return dataclasses.replace(clip, ending=clip.images[:, 0].flip(0), is_step_pad=is_step_pad)


def test_inverse_dynamics_learn_the_chunk_up_to_the_episodes_end() -> None:
    """One batch is learnt by heart but for the third step, of which nobody knows what it was."""
    weights = LossWeights(dynamics=0, sigreg=0, reward=0, success=0, value=0, state=0)
    model, clip = make(inverse_dynamics=True, loss_weights=weights), with_ending(make_clip())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        loss, _ = model.loss(clip)
        loss.backward()
        optimizer.step()
    assert model.inverse is not None
    assert clip.ending is not None
    present, later = model.encode(clip.images[:, 0]), model.encode(clip.images[:, 1])
    for goal in (later, model.encode(clip.ending)):
        found = model.inverse(present, goal)
        assert torch.allclose(found[:, :2], clip.chunks[:, 0, :2], atol=0.2)
        assert not torch.allclose(found[:, 2], clip.chunks[:, 0, 2], atol=0.2)


def test_inverse_dynamics_need_actions() -> None:
    sizes = Sizes(cameras=2, action_dim=0, state_dim=5, vocabulary=259)
    with pytest.raises(ValueError, match=r"--model.inverse_dynamics=true: expected data with actions"):
        JEPA(config(inverse_dynamics=True), sizes)


def test_moments_are_encoded_one_by_one() -> None:
    model, images = make(), make_clip().images
    assert torch.allclose(model.encode(images)[1, 2], model.encode(images[:, 2])[1], atol=1e-5)


def test_every_offset_is_in_environment_steps() -> None:
    """Two moments of history and three predictions, four steps apart."""
    offsets = config(history=2, rollout_steps=3, chunk_steps=4)
    assert offsets.observation_delta_indices == [-4, 0, 4, 8, 12]
    assert offsets.action_delta_indices == list(range(12))
    assert offsets.reward_delta_indices == [3, 7, 11]
    assert config(chunk_steps=3, inverse_dynamics=True).observation_delta_indices == [0, 3, 6, EPISODE_END]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "huge"}, "--model.preset=huge: expected one of tiny, small"),
        ({"rollout_steps": 0}, "--model.rollout_steps=0: expected at least 1"),
        ({"dim": 15}, "--model.dynamics_heads=2: expected a divisor of dim=15"),
        ({"teacher_loss_weight": -1.0}, "--model.teacher_loss_weight=-1.0: expected at least 0"),
        ({"loss_weights": LossWeights(sigreg=-2)}, "--model.loss_weights.sigreg=-2: expected at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        config(**changes)


# --- instructions ---------------------------------------------------------------------------------


def read(*texts: str) -> Tensor:
    torch.manual_seed(0)
    encoder = InstructionEncoder(vocabulary=259, max_bytes=32, dim=8)
    longest = max(map(len, texts))
    ids = torch.tensor([[*text.encode(), *[0] * (longest - len(text))] for text in texts])
    return encoder(ids, ids != 0)


def test_the_order_of_words_matters() -> None:
    first, second = read("red left, blue right", "blue left, red right")
    assert (first - second).abs().max() > 1e-3


def test_the_longest_instruction_of_the_batch_does_not_matter() -> None:
    assert torch.allclose(read("push")[0], read("push", "open the drawer")[0], atol=1e-6)


def test_no_text_is_no_goal() -> None:
    assert torch.equal(read("", "push")[0], torch.zeros(8))


def test_an_instruction_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="instruction of 33 bytes: expected at most 32"):
        read("a" * 33)


# --- teacher --------------------------------------------------------------------------------------


def test_features_of_a_teacher_are_standardised_and_never_trained() -> None:
    """Pictures of any size, leading dimensions kept, no gradient."""
    teacher = FrozenTeacher("test_resnet", pretrained=False)
    features = teacher.features(torch.rand(2, 3, 1, 3, 16, 24, requires_grad=True))
    assert features.shape == (2, 3, 1, teacher.dim)
    assert torch.allclose(features.mean(-1), torch.zeros(2, 3, 1), atol=1e-4)
    assert not features.requires_grad


def test_a_teacher_adds_its_weighted_error_and_nothing_else() -> None:
    model, clip = make(teacher_dim=6, teacher_loss_weight=0.5), make_clip()
    taught = dataclasses.replace(clip, teacher=torch.ones(3, 3, 2, 6))
    torch.manual_seed(2)
    plain, _ = model.loss(clip)
    torch.manual_seed(2)
    loss, metrics = model.loss(taught)
    assert float((loss - plain).detach()) == pytest.approx(0.5 * float(metrics["teacher_loss"]), rel=1e-4)


def test_an_unknown_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--model\.teacher=dyno: expected none or a timm model"):
        FrozenTeacher("dyno", pretrained=False)
