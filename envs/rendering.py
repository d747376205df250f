"""Off-screen pictures of a MuJoCo scene: a table of camera views and a fast, repeatable renderer.

The OpenGL backend comes from the environment variable MUJOCO_GL (egl, osmesa or glfw). Software rendering is
bound by triangles, so a picture is drawn from a copy of the model with fewer of them (`envs.meshes`), without
shadows and reflections, and without what lies outside the camera's view.
H, W picture size; G geoms of a model.
"""

import atexit
import copy
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from envs.meshes import simplify_meshes

HIDDEN_GROUP = 5
FOLLOWED = ("geom_rgba", "light_diffuse")
"""What of a model may change between two pictures; where lights and cameras are is part of the state."""
# 8 mm at 96 pixels: the footprint of one pixel at the distance of the corner view.
CELL_METRES_TIMES_PIXELS = 0.77


@dataclass(frozen=True, kw_only=True)
class FreeView:
    """A camera that looks at a point of the world. lookat, distance: metres; azimuth, elevation: degrees."""

    lookat: tuple[float, float, float]
    distance: float
    azimuth: float
    elevation: float


@dataclass(frozen=True, kw_only=True)
class ModelView:
    """A camera of the MuJoCo model; `upside_down` turns its picture by 180 degrees."""

    name: str
    upside_down: bool = False


Views = Mapping[str, FreeView | ModelView]
"""The views of one kind of scene, by the names that users give as cameras."""

# Meta-World's. The robot stands at the origin and works along +y. A camera looks along its azimuth: 90 is +y,
# 180 is -x. `corner` and `side` face the robot from both sides, 100 degrees apart, so that together they tell
# depth; the stock cameras of Meta-World stand far away and, but for the gripper's, upside down.
VIEWS: Views = {
    "corner": FreeView(lookat=(0.0, 0.68, 0.15), distance=0.82, azimuth=-140.0, elevation=-38.0),
    "side": FreeView(lookat=(0.0, 0.68, 0.15), distance=0.82, azimuth=-40.0, elevation=-38.0),
    "front": FreeView(lookat=(0.0, 0.68, 0.15), distance=0.82, azimuth=-90.0, elevation=-30.0),
    "top": FreeView(lookat=(0.0, 0.68, 0.0), distance=1.0, azimuth=90.0, elevation=-89.0),
    "gripper": ModelView(name="gripperPOV"),
    "behind_gripper": ModelView(name="behindGripper"),
    "stock_top": ModelView(name="topview"),
    "stock_corner": ModelView(name="corner", upside_down=True),
    "corner2": ModelView(name="corner2", upside_down=True),
    "corner3": ModelView(name="corner3", upside_down=True),
    "corner4": ModelView(name="corner4", upside_down=True),
}


def check_views(names: tuple[str, ...], views: Views = VIEWS) -> None:
    """Raise ValueError, naming the known views, unless `names` are one or more distinct ones of `views`."""
    for name in names:
        if name not in views:
            raise ValueError(f"camera {name!r}: expected one of {', '.join(views)}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"cameras {','.join(names)!r}: expected one or more, each once")


class _SharedContext:
    """The process's OpenGL context, made on first use; the scenes of all its environments live in it.

    Freed with everything in it before the interpreter takes its modules apart: a context freed by the garbage
    collector at that time prints errors.
    """

    def __init__(self) -> None:
        self._context: mujoco.GLContext | None = None
        self._owner = 0
        self._scenes: set[mujoco.MjrContext] = set()

    def make_current(self, width: int = 1, height: int = 1) -> None:
        """Select the context for this thread: another library in the process may have selected its own."""
        context = self._context
        if context is None:
            context = self._context = mujoco.GLContext(width, height)
            self._owner = os.getpid()
            atexit.register(self._close)
        if self._owner != os.getpid():
            raise RuntimeError("OpenGL does not survive a fork: start processes with 'spawn' or 'forkserver'")
        context.make_current()

    def upload(self, model: mujoco.MjModel, width: int, height: int) -> mujoco.MjrContext:
        """Copy the model's meshes and textures into the context."""
        self.make_current(width, height)
        scene = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        self._scenes.add(scene)
        return scene

    def free(self, scene: mujoco.MjrContext) -> None:
        """Remove an uploaded scene; a second call does nothing."""
        if scene in self._scenes and self._owner == os.getpid():
            self._scenes.discard(scene)
            self.make_current()
            scene.free()

    def _close(self) -> None:
        for scene in list(self._scenes):
            self.free(scene)
        if self._context is not None and self._owner == os.getpid():
            self._context.free()
        self._context = None


_SHARED = _SharedContext()


class SceneRenderer:
    """Draws a model's scene from any view at one size. The same state gives the same picture, bit for bit."""

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        width: int,
        height: int,
        views: Views = VIEWS,
        shadows: bool = False,
    ) -> None:
        """Copy and upload the model, which stays as it is; later changes of FOLLOWED are drawn.

        views: what it can be seen from; shadows: the model's own quality, with shadows, reflections, smooth
        edges and all triangles; some ten times slower.
        """
        self._source, self._model = model, copy.copy(model)
        self._views = views
        if not shadows:
            _lower_quality(self._model, height)
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = width, height
        self._groups = self._model.geom_group.copy()
        self._can_hide = self._model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE
        self._scene = mujoco.MjvScene(self._model, maxgeom=self._model.ngeom + self._model.nsite + 100)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = shadows
        self._option = mujoco.MjvOption()
        self._option.geomgroup[HIDDEN_GROUP] = 0
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._cameras: dict[str, mujoco.MjvCamera] = {}
        self._uploaded = _SHARED.upload(self._model, width, height)
        self._release = weakref.finalize(self, _SHARED.free, self._uploaded)
        self._release.atexit = False  # the shared context frees what is left, in the right order

    def render(self, data: mujoco.MjData, name: str) -> np.ndarray:
        """Draw the state `data` from the view `name`. Returns (H, W, 3) uint8, upright."""
        if not self._release.alive:
            raise RuntimeError("render called after close")
        view = self._views[name]
        if name not in self._cameras:
            self._cameras[name] = _make_camera(self._model, view)
        camera = self._cameras[name]
        for part in FOLLOWED:
            getattr(self._model, part)[:] = getattr(self._source, part)
        mujoco.mjv_updateCamera(self._model, data, camera, self._scene)
        self._model.geom_group[:] = np.where(self._out_of_view(data), HIDDEN_GROUP, self._groups)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, self._option, None, camera, everything, self._scene)
        picture = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        _SHARED.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._uploaded)
        mujoco.mjr_render(self._rect, self._scene, self._uploaded)
        mujoco.mjr_readPixels(picture, None, self._rect, self._uploaded)
        # OpenGL's first row is the lowest one.
        is_upside_down = isinstance(view, ModelView) and view.upside_down
        return np.ascontiguousarray(picture[:, ::-1] if is_upside_down else picture[::-1])

    def _out_of_view(self, data: mujoco.MjData) -> np.ndarray:
        """Return which geoms' bounding spheres lie outside the camera's pyramid, (G,) bool."""
        camera = self._scene.camera[0]
        offset = data.geom_xpos - camera.pos
        depth = offset @ camera.forward
        radius = self._model.geom_rbound
        hidden = depth + radius < camera.frustum_near
        slope = camera.frustum_top / camera.frustum_near
        right = np.cross(camera.forward, camera.up)
        for axis, edge in ((camera.up, slope), (right, slope * self._rect.width / self._rect.height)):
            hidden |= np.abs(offset @ axis) - edge * depth > radius * np.hypot(1.0, edge)
        return hidden & self._can_hide

    def close(self) -> None:
        """Free the uploaded scene; a second call does nothing."""
        self._release()


def _lower_quality(model: mujoco.MjModel, height: int) -> None:
    """Turn off what costs time and cannot be seen at this picture height."""
    quality = model.vis.quality
    quality.shadowsize = quality.offsamples = 0
    model.mat_reflectance[:] = 0.0
    quality.numslices = int(np.clip(height // 8, 12, 28))
    quality.numstacks = int(np.clip(height // 12, 8, 16))
    quality.numquads = 1
    simplify_meshes(model, CELL_METRES_TIMES_PIXELS / height)


def _make_camera(model: mujoco.MjModel, view: FreeView | ModelView) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    if isinstance(view, FreeView):
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = view.lookat
        camera.distance, camera.azimuth, camera.elevation = view.distance, view.azimuth, view.elevation
    else:
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = model.camera(view.name).id
    return camera
