"""Augmentations change whole batches, each sample by its own draw."""

import pytest
import torch

from embodied.data.augment import (
    AUGMENTATIONS,
    COLOR_RANGE,
    LIGHT_RANGE,
    MAX_SHIFT,
    augment,
    color,
    light,
    shift,
    view,
)
from embodied.errors import UserError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(batch: int, size: int = 16) -> torch.Tensor:
    """Pictures whose first channel is the row and second the column: (B, 3, size, size) uint8."""
    grid = torch.arange(size, dtype=torch.uint8)
    rows, columns = torch.meshgrid(grid, grid, indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)]).expand(batch, -1, -1, -1).clone()


def test_a_shift_moves_by_whole_pixels_and_repeats_the_border() -> None:
    moved = shift(coordinates(64), generator()).int()
    for picture in moved:
        dy, dx = (picture[:2, 8, 8] - 8).tolist()
        assert max(abs(dy), abs(dx)) <= MAX_SHIFT
        assert picture[0, :, 0].tolist() == [min(max(i + dy, 0), 15) for i in range(16)]
        assert picture[1, 0, :].tolist() == [min(max(i + dx, 0), 15) for i in range(16)]


def test_samples_move_differently_and_every_move_occurs() -> None:
    moved = shift(coordinates(500), generator()).int()
    assert set((moved[:, 0, 8, 8] - 8).tolist()) == set(range(-MAX_SHIFT, MAX_SHIFT + 1))
    assert set((moved[:, 1, 8, 8] - 8).tolist()) == set(range(-MAX_SHIFT, MAX_SHIFT + 1))


@pytest.mark.parametrize("name", ["shift", "color", "light", "view"])
def test_the_frames_of_a_sample_change_together(name: str) -> None:
    pictures = coordinates(4).unsqueeze(1).repeat(1, 3, 1, 1, 1)
    changed = AUGMENTATIONS[name](pictures, generator())
    assert changed.shape == pictures.shape
    assert torch.equal(changed[:, 0], changed[:, 2])


def test_color_scales_a_grey_picture_by_its_brightness_alone() -> None:
    """Contrast acts around the mean, which a picture of one colour equals everywhere."""
    grey = torch.full((200, 3, 4, 4), 0.5)
    changed = color(grey, generator())
    factors = changed.flatten(1)[:, 0] / 0.5
    assert torch.equal(changed, changed.flatten(1)[:, :1, None, None].expand_as(changed))
    assert 1 - COLOR_RANGE <= factors.min() < 0.85
    assert 1.15 < factors.max() <= 1 + COLOR_RANGE


@pytest.mark.parametrize("name", ["shift", "color", "light", "view"])
def test_bytes_stay_bytes_and_channels_stay_last(name: str) -> None:
    pictures = coordinates(4).contiguous(memory_format=torch.channels_last)
    changed = AUGMENTATIONS[name](pictures, generator())
    assert changed.dtype == torch.uint8
    assert changed.is_contiguous(memory_format=torch.channels_last)


def test_the_generator_decides() -> None:
    pictures = coordinates(8)
    assert torch.equal(shift(pictures, generator(1)), shift(pictures, generator(1)))
    assert not torch.equal(shift(pictures, generator(1)), shift(pictures, generator(2)))


def test_cameras_change_independently_and_numbers_not_at_all() -> None:
    state = torch.ones(8, 4)
    batch = {
        "observation.images.a": coordinates(8),
        "observation.images.b": coordinates(8),
        "observation.state": state,
    }
    changed = augment(batch, "shift", generator())
    assert not torch.equal(changed["observation.images.a"], changed["observation.images.b"])
    assert changed["observation.state"] is state


def test_none_changes_nothing() -> None:
    batch = {"observation.images.a": coordinates(2)}
    assert augment(batch, "none", generator())["observation.images.a"] is batch["observation.images.a"]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    known = "none, shift, color, light, view"
    with pytest.raises(UserError, match=rf"--dataset.augmentation=flip: expected one of {known}"):
        augment({}, "flip", generator())


def test_light_scales_each_channel_by_itself() -> None:
    changed = light(torch.full((300, 3, 4, 4), 0.5), generator())
    gains = changed[:, :, 0, 0] / 0.5
    assert torch.equal(changed, changed[:, :, :1, :1].expand_as(changed))
    assert 1 - LIGHT_RANGE <= gains.min() < 1 - 0.9 * LIGHT_RANGE
    assert 1 + 0.9 * LIGHT_RANGE < gains.max() <= 1 + LIGHT_RANGE
    assert torch.corrcoef(gains.T)[0, 1].abs() < 0.2


def test_a_view_moves_a_picture_as_a_rigid_whole_and_leaves_its_middle_near() -> None:
    """Rows and columns as numbers: where each pixel comes from is an affine map near the identity."""
    size = 33
    changed = view(coordinates(50, size).float() / 255, generator())[:, :2] * 255
    inner = changed[:, :, 10:23, 10:23]
    across, down = inner.diff(dim=3)[:, :, :-1], inner.diff(dim=2)[..., :-1]
    assert torch.allclose(across, across[..., :1, :1].expand_as(across), atol=0.01)
    assert torch.allclose(down, down[..., :1, :1].expand_as(down), atol=0.01)
    scale = across[..., 0, 0].norm(dim=1)
    assert 0.89 < scale.min() < 0.95
    assert 1.05 < scale.max() < 1.11
    turn = torch.atan2(across[:, 0, 0, 0], across[:, 1, 0, 0]).rad2deg()
    assert -20.1 < turn.min() < -10
    assert 10 < turn.max() < 20.1
    way = inner[:, :, 6, 6] - 16
    assert 0.05 * size < way.abs().max() < 0.11 * size


def test_several_act_one_after_the_other() -> None:
    batch = {"observation.images.a": coordinates(8)}
    draws = generator()
    both = augment(batch, "light,shift", generator())["observation.images.a"]
    assert torch.equal(both, shift(light(batch["observation.images.a"], draws), draws))
