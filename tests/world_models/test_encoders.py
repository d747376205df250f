"""Scene encoders: shapes, where the queries look, and clear errors."""

import pytest
import torch

from world_models.encoders import TOWERS, LatentQueries, VisualEncoder, make_tower


def test_queries_read_the_position_of_a_bright_cell():
    """Attention drawn to one cell returns that cell's features and centre."""
    queries = LatentQueries(channels=4, cameras=1, tokens=1, heads=1, dim=6)
    grids = torch.zeros(1, 1, 4, 8, 8)
    grids[0, 0, 0, 2, 5] = 1.0
    with torch.no_grad():
        queries.queries.zero_()
        queries.queries[0, 0, 0] = 100.0
        queries.token_embedding.zero_()
        queries.project.bias.zero_()
        queries.project.weight.copy_(torch.eye(6))
    read = queries(grids)
    x, y = (5 + 0.5) / 8 * 2 - 1, (2 + 0.5) / 8 * 2 - 1
    assert torch.allclose(read[0, 0], torch.tensor([1, 0, 0, 0, x, y]), atol=1e-5)


def test_a_query_can_ask_for_the_leftmost_of_two_that_are_alike():
    queries = LatentQueries(channels=1, cameras=1, tokens=1, heads=1, dim=3)
    grids = torch.zeros(1, 1, 1, 8, 8)
    grids[..., 3, 1] = grids[..., 3, 6] = 1.0
    with torch.no_grad():
        queries.queries.copy_(torch.tensor([100.0, -20.0, 0.0]))
        queries.token_embedding.zero_()
        queries.project.bias.zero_()
        queries.project.weight.copy_(torch.eye(3))
    assert torch.allclose(queries(grids)[0, 0, 1], torch.tensor((1 + 0.5) / 8 * 2 - 1), atol=1e-4)


@pytest.mark.parametrize("tower", sorted(TOWERS))
def test_every_tower_gives_latents_of_the_promised_shape(tower):
    encoder = VisualEncoder(tower, cameras=2, tokens=5, heads=4, dim=24)
    assert encoder.encode(torch.rand(3, 2, 3, 64, 64)).shape == (3, 5, 24)


def test_cameras_are_told_apart():
    """Swapping two cameras changes the latents: each has queries of its own."""
    encoder = VisualEncoder("strided12", cameras=2, tokens=2, heads=4, dim=16)
    images = torch.rand(1, 2, 3, 64, 64)
    assert not torch.allclose(encoder.encode(images), encoder.encode(images.flip(1)), atol=1e-4)


def test_memory_format_does_not_change_the_latents():
    encoder = VisualEncoder("strided12", cameras=1, tokens=2, heads=4, dim=16)
    images = torch.rand(2, 1, 3, 64, 64)
    channels_last = images.movedim(2, -1).contiguous().movedim(-1, 2)
    assert torch.allclose(encoder.encode(images), encoder.encode(channels_last), atol=1e-5)


def test_an_unknown_tower_names_the_valid_ones():
    with pytest.raises(ValueError, match=r"image tower 'resnet99': expected one of .*strided12"):
        make_tower("resnet99")


def test_a_camera_too_many_is_refused():
    encoder = VisualEncoder("strided12", cameras=1, tokens=2, heads=4, dim=16)
    with pytest.raises(ValueError, match="2 cameras: expected 1"):
        encoder.encode(torch.rand(1, 2, 3, 64, 64))
