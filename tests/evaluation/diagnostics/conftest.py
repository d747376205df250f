"""A world model of the fake environment that is right by construction: its one latent is the brightness."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from embodied.config import CollectConfig, DatasetConfig, TrainConfig
from embodied.data.collect import collect
from embodied.evaluation.diagnostics import ranking
from embodied.evaluation.diagnostics.model import Encode
from embodied.evaluation.diagnostics.scenes import Stage
from embodied.training.loop import train
from embodied.training.world_models import JEPAModelConfig
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

    def encode(self, pictures: Mapping[str, Tensor], states: Tensor) -> Tensor:
        return pictures[CAMERA].mean((1, 2, 3))[:, None, None]

    def untrained(self, seed: int) -> Encode:
        return lambda pictures, states: torch.zeros(len(states), 1, 1)

    def normalise_actions(self, actions: Tensor) -> Tensor:
        return actions

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        assert history.shape[1] == self.history
        moved = METRES_PER_ACTION * BRIGHTNESS_PER_METRE * chunks[..., 0].sum(-1)
        return history[:, -1:] + moved.cumsum(1)[..., None, None]


@pytest.fixture(autouse=True)
def two_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictors without pictures are fitted twice instead of five times."""
    monkeypatch.setattr(ranking, "FOLDS", 2)


@pytest.fixture
def stage() -> Iterator[Stage]:
    """The fake environment, an episode of which lasts 12 steps and its expert 10."""
    with Stage(PointEnvConfig(), "east") as opened:
        yield opened


WITH_WORLD_MODEL = {
    "world_model": True,
    "chunk_size": 4,
    "n_action_steps": 4,
    "action_tokens": 2,
    "candidates": 6,
    "exploration": 0.5,
    "dynamics_depth": 1,
    "dynamics_heads": 2,
}


def collect_points(root: Path, *, episodes: int = 3, seed: int = 0, **env: Any) -> Path:
    """A data set of the fake expert: ten frames an episode, from x = 0 on 0.1 to the right at each."""
    scene = PointEnvConfig(**({"episode_length": 10} | env))
    dataset = DatasetConfig(root=root)
    collect(CollectConfig(env=scene, dataset=dataset, episodes=episodes, workers=1, seed=seed))
    return root


@pytest.fixture(scope="session")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of the fake environment."""
    return collect_points(tmp_path_factory.mktemp("data") / "points")


@pytest.fixture
def save_jepa(tmp_path: Path, points: Path) -> Callable[..., Path]:
    """Trains a world model on its own for one step; returns its checkpoint."""

    def save(**changes: Any) -> Path:
        sizes = {"num_latents": 2, "latent_heads": 2, "dim": 16, "dynamics_depth": 1, "dynamics_heads": 2}
        model = JEPAModelConfig(device="cpu", chunk_steps=4, **sizes, **changes)
        run = {"output_dir": tmp_path / "jepa", "steps": 1, "batch_size": 4}
        result = train(TrainConfig(model=model, dataset=DatasetConfig(root=points), **run))
        return Path(result["checkpoint"])

    return save
