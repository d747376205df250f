"""A task in a MuJoCo scene: made on first use, seen by cameras through one renderer. H, W picture size."""

from typing import ClassVar, Protocol

import gymnasium as gym
import mujoco
import numpy as np

from envs.rendering import SceneRenderer, Views
from envs.simulated import Settings, SimulatedEnv


class Scene(Protocol):
    """What is simulated."""

    @property
    def model(self) -> mujoco.MjModel:
        """The scene."""
        ...

    @property
    def data(self) -> mujoco.MjData:
        """Its state."""
        ...


class SceneEnv[S: Scene](SimulatedEnv):
    """An environment over a scene. views: of its cameras."""

    views: ClassVar[Views]

    def __init__(self, settings: Settings, agent_pos: gym.spaces.Box, *, shadows: bool) -> None:
        """shadows: full rendering quality; the rest as in `SimulatedEnv`."""
        super().__init__(settings, agent_pos)
        self.shadows = shadows
        self._simulation: S | None = None
        self._renderer: SceneRenderer | None = None

    def render(self) -> np.ndarray:
        """Return the first camera's picture, (H, W, 3) uint8."""
        return self._picture(self.cameras[0])

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _pictures(self) -> dict[str, np.ndarray]:
        """Every camera's."""
        return {camera: self._picture(camera) for camera in self.cameras}

    def _picture(self, camera: str) -> np.ndarray:
        simulation = self._running()
        if self._renderer is None:
            self._renderer = SceneRenderer(
                simulation.model, width=self.width, height=self.height, views=self.views, shadows=self.shadows
            )
        return self._renderer.render(simulation.data, camera)

    def _running(self) -> S:
        if self._simulation is None:
            raise RuntimeError("the environment was used before its first reset")
        return self._simulation
