"""LeWorldModel behind our interface: what its authors' modules compute, and what it refuses."""

import dataclasses
import sys
from typing import Any

import pytest
import torch

from tests.lewm import SMALL
from world_models.config import LeWMConfig, Sizes
from world_models.from_pixels import Clip
from world_models.lewm import LeWorldModel
from world_models.outcomes import Outcomes

SIZES = Sizes(cameras=2, action_dim=4, state_dim=5, vocabulary=259)


def make(**changes: Any) -> LeWorldModel:
    torch.manual_seed(0)
    model = LeWorldModel(LeWMConfig(**SMALL | changes), SIZES)
    # Their blocks start as the identity, which would hide what actions and moments do.
    for parameter in model.network.predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def make_clip(steps: int = 3) -> Clip:
    """Four clips of two 16 px cameras."""
    draw = torch.Generator().manual_seed(1)
    return Clip(
        images=torch.rand(4, 1 + steps, 2, 3, 16, 16, generator=draw),
        chunks=torch.randn(4, steps, 2, 4, generator=draw),
        is_pad=torch.zeros(4, steps, dtype=torch.bool),
        instruction=(torch.full((4, 6), 80), torch.ones(4, 6, dtype=torch.bool)),
        outcomes=Outcomes(state=torch.randn(4, steps, 5, generator=draw)),
    )


def test_a_scene_is_one_token_of_all_cameras() -> None:
    model, images = make().eval(), make_clip().images
    latents = model.encode(images)
    assert latents.shape == (4, 4, 1, 16)
    torch.testing.assert_close(model.encode(images[:, 0]), latents[:, 0], atol=1e-5, rtol=1e-4)
    for camera in range(2):
        other = images.clone()
        other[:, 0, camera] = 0
        assert (model.encode(other)[:, 0] - latents[:, 0]).abs().amax(dim=(1, 2)).min() > 1e-5


@torch.no_grad()
def test_a_rollout_predicts_from_its_own_predictions_with_all_moments_in_sight() -> None:
    model, clip = make().eval(), make_clip()
    start = model.encode(clip.images[:, :1])
    foreseen = model.rollout(start, clip.chunks)
    assert foreseen.shape == (4, 3, 1, 16)
    told = model.network.action_encoder(clip.chunks.flatten(2))
    known = start[:, :, 0]
    for moment in range(3):
        following = model.network.predict(known, told[:, : moment + 1])[:, -1:]
        torch.testing.assert_close(foreseen[:, moment], following, atol=1e-5, rtol=1e-4)
        known = torch.cat([known, following], dim=1)
    torch.testing.assert_close(model.step(start, clip.chunks[:, 0]), foreseen[:, 0])


def test_a_rollout_goes_on_for_longer_than_it_was_trained() -> None:
    model, clip = make().eval(), make_clip(steps=7)
    foreseen = model.rollout(model.encode(clip.images[:, :1]), clip.chunks)
    assert foreseen.shape == (4, 7, 1, 16)
    assert (foreseen[:, 0] - foreseen[:, 6]).abs().max() > 1e-4


def test_the_loss_is_prediction_and_sigreg_and_leaves_padding_out() -> None:
    model, clip = make(dropout=0.0, sigreg_weight=0.5), make_clip()
    torch.manual_seed(2)
    loss, metrics = model(clip)
    assert loss.item() == pytest.approx((metrics["dynamics_loss"] + 0.5 * metrics["sigreg_loss"]).item())
    model.eval()  # so that batch statistics do not mix the clips
    padded = dataclasses.replace(clip, is_pad=torch.tensor([[False, False, True]] * 4))
    other = clip.images.clone()
    other[:, -1] = 0
    error = model(padded)[1]["dynamics_loss"]
    assert model(dataclasses.replace(padded, images=other))[1]["dynamics_loss"] == error
    assert model(dataclasses.replace(clip, images=other))[1]["dynamics_loss"] != error


def test_one_batch_is_learned() -> None:
    model, clip = make(dropout=0.0), make_clip()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss, metrics = model(clip)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(metrics["dynamics_loss"].item())
    assert losses[-1] < 0.2 * losses[0]


def test_what_it_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="expected data with actions"):
        LeWorldModel(LeWMConfig(**SMALL), dataclasses.replace(SIZES, action_dim=0))
    with pytest.raises(ValueError, match=r"--model.history=2: expected 1"):
        LeWMConfig(**SMALL, history=2)
    with pytest.raises(ValueError, match=r"--model.encoder_heads=3: expected a divisor of 16"):
        LeWMConfig(**SMALL | {"encoder_heads": 3})
    with pytest.raises(ValueError, match="reads no outcomes"):
        make().outcomes(torch.zeros(1, 1, 16), torch.zeros(1, 0))
    monkeypatch.setitem(sys.modules, "stable_worldmodel.wm.lewm", None)
    with pytest.raises(ValueError, match="expected the extra `peers` to be installed"):
        make()
