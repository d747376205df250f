"""A world model of the fake environment that is right by construction: its one latent is the brightness."""

from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor

from embodied.evaluation.diagnostics.model import Encode
from embodied.evaluation.diagnostics.scenes import Stage
from tests.fake_envs import SIZE, PointEnvConfig

CAMERA = "observation.images.corner"
BRIGHTNESS_PER_METRE = 127 / 255
METRES_PER_ACTION = 0.1


class PointWorld:
    """Implements `WorldModelUnderTest`: z is the picture's mean, and moves as the point does."""

    def __init__(self, history: int = 1, chunk_steps: int = 4) -> None:
        self.cameras: Mapping[str, tuple[int, ...]] = {CAMERA: (3, SIZE, SIZE)}
        self.action_size = 2
        self.history, self.stride, self.chunk_steps = history, chunk_steps, chunk_steps
        self.device = torch.device("cpu")

    def encode(self, pictures: Mapping[str, Tensor]) -> Tensor:
        return pictures[CAMERA].mean((1, 2, 3))[:, None, None]

    def untrained(self, seed: int) -> Encode:
        return lambda pictures: torch.zeros(len(pictures[CAMERA]), 1, 1)

    def normalise_actions(self, actions: Tensor) -> Tensor:
        return actions

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        assert history.shape[1] == self.history
        moved = METRES_PER_ACTION * BRIGHTNESS_PER_METRE * chunks[..., 0].sum(-1)
        return history[:, -1:] + moved.cumsum(1)[..., None, None]


@pytest.fixture
def stage() -> Iterator[Stage]:
    """The fake environment, an episode of which lasts 12 steps and its expert 10."""
    with Stage(PointEnvConfig(), "east") as opened:
        yield opened
