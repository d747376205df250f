"""LeRobot's hook for predicted video, as its evaluation calls it."""

from pathlib import Path

import pytest
import torch

from policies.latent_vla.predicted_video import describe_decoder, film, load_decoder, save_decoder
from world_models.decoder import FrameDecoder


@pytest.fixture
def decoder_file(tmp_path: Path) -> Path:
    """A decoder for the tiny policy's latents, of two cameras of 32 pixels, that draws what it is given."""
    torch.manual_seed(0)
    decoder = FrameDecoder(tokens=3, dim=32, cameras=2, height=32, width=32)
    torch.nn.init.normal_(decoder.draw.weight, std=0.1)
    decoder.mean_picture[0] = 0.5
    save_decoder(decoder, tmp_path / "decoder.safetensors", {"steps": 7})
    return tmp_path / "decoder.safetensors"


def test_a_saved_decoder_draws_the_same(decoder_file: Path) -> None:
    latents = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(1))
    one, other = load_decoder(decoder_file), load_decoder(decoder_file)
    assert torch.equal(one.decode(latents), other.decode(latents))
    assert describe_decoder(decoder_file) == {"steps": 7}


def test_a_film_shows_the_first_environment_with_cameras_abreast(decoder_file: Path) -> None:
    decoder = load_decoder(decoder_file)
    torch.nn.init.zeros_(decoder.draw.weight)
    pictures = film(decoder, torch.randn(2, 3, 5, 32))
    assert pictures.shape == (5, 32, 64, 3)
    assert pictures.dtype == torch.uint8
    assert pictures[:, :, :32].unique().tolist() == [128]
    assert pictures[:, :, 32:].unique().tolist() == [0]


@pytest.mark.parametrize("mode", ["reactive", "imagine", "plan"])
def test_lerobot_finds_what_the_policy_expects_after_every_action(
    make_policy, make_batch, decoder_file: Path, mode: str
) -> None:
    """LeRobot takes it away each time, joins it along the third dimension and has it decoded."""
    policy = make_policy(
        world_model=True,
        imagination="latent",
        n_action_steps=2,
        mode=mode,
        save_predicted_video=True,
        video_decoder=decoder_file,
    ).eval()
    found = []
    with torch.inference_mode():
        for _ in range(4):
            policy.select_action(make_batch())
            found.append(policy.last_predicted_latents)
            policy.last_predicted_latents = None
    assert [latents.shape for latents in found] == [(2, 3, 1, 32)] * 4
    assert torch.equal(found[0], found[1])  # of the same chunk
    assert policy.decode_predicted_latents(torch.cat(found, dim=2)).shape == (4, 32, 64, 3)
    policy.reset()
    assert policy.last_predicted_latents is None


def test_imagined_scenes_are_shown_where_they_decide(make_policy, make_batch, decoder_file: Path) -> None:
    policy = make_policy(
        world_model=True,
        imagination="latent",
        mode="imagine",
        save_predicted_video=True,
        video_decoder=decoder_file,
    ).eval()
    with torch.inference_mode():
        policy.select_action(make_batch())
        torch.testing.assert_close(policy.last_predicted_latents[:, :, 0], policy.imagine(make_batch())[:, 0])


def test_nothing_is_kept_unless_asked_for(make_policy, make_batch) -> None:
    policy = make_policy(world_model=True).eval()
    policy.select_action(make_batch())
    assert policy.last_predicted_latents is None


def test_a_film_needs_a_world_model_and_a_decoder(make_config, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"save_predicted_video=true: expected a policy with a world model"):
        make_config(save_predicted_video=True, video_decoder=tmp_path)
    with pytest.raises(ValueError, match=r"--policy.video_decoder=FILE"):
        make_config(save_predicted_video=True, world_model=True)
    (tmp_path / "none").write_text("")
    with pytest.raises(ValueError, match="expected a decoder that `embodied imagine` wrote"):
        load_decoder(tmp_path / "none")
