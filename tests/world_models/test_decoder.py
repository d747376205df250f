"""The frame decoder: what it draws before and after it learned."""

import torch

from world_models.decoder import FrameDecoder


def few_frames() -> tuple[torch.Tensor, torch.Tensor]:
    """Four scenes of two cameras, 20 by 24 pixels: a bright square at another place in each."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.full((4, 2, 3, 20, 24), 40, dtype=torch.uint8)
    for scene in range(4):
        frames[scene, :, :, 4 * scene : 4 * scene + 6, 5 * scene : 5 * scene + 6] = 220
    return torch.randn(4, 2, 8, generator=generator), frames


def test_before_it_learned_it_draws_the_mean_picture() -> None:
    latents, frames = few_frames()
    decoder = FrameDecoder(tokens=2, dim=8, cameras=2, height=20, width=24)
    decoder.measure(latents, frames)
    mean = frames.float().mean(0) / 255
    torch.testing.assert_close(decoder.decode(latents), mean.expand(4, -1, -1, -1, -1))


def test_it_overfits_a_handful_of_frames() -> None:
    torch.manual_seed(0)
    latents, frames = few_frames()
    decoder = FrameDecoder(tokens=2, dim=8, cameras=2, height=20, width=24)
    decoder.measure(latents, frames)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
    batch = {"latents": latents, "frames": frames.float() / 255}
    first = decoder(batch)[0].item()
    for _ in range(120):
        loss, _ = decoder(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (decoder.decode(latents) - batch["frames"]).square().mean() < 0.02 * first


def test_latents_of_any_scale_are_drawn_alike() -> None:
    """The decoder measures mean and spread of the latents it is given."""
    latents, frames = few_frames()
    drawn = []
    for scale, shift in ((1.0, 0.0), (50.0, 7.0)):
        torch.manual_seed(0)
        decoder = FrameDecoder(tokens=2, dim=8, cameras=2, height=20, width=24)
        torch.nn.init.normal_(decoder.draw.weight, std=0.1)
        decoder.measure(latents * scale + shift, frames)
        drawn.append(decoder.decode(latents * scale + shift))
    torch.testing.assert_close(drawn[0], drawn[1], rtol=1e-4, atol=1e-4)
    assert drawn[0].var(0).max() > 1e-4
