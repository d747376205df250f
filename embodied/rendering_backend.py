"""Which off-screen OpenGL MuJoCo draws with: GPU EGL, software EGL or OSMesa, in this order.

MuJoCo binds its backend on import, so each candidate draws a small scene in a process of its own, and the
caller's process imports no MuJoCo here. The first that works is remembered beside the interpreter, in a file
that shells can source.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from embodied.errors import UserError

REMEMBERED = Path(sys.prefix) / "renderer.env"
PACKAGES = ("libegl1", "libgl1", "libgl1-mesa-dri", "libopengl0", "libosmesa6")
INSTALL_LINE = f"apt-get update && apt-get install -y {' '.join(PACKAGES)}"
SECONDS_TO_DRAW = 120
KNOWN_TO_MUJOCO = ("egl", "osmesa", "glfw")
SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast")

SCENE = """<mujoco><worldbody><light pos="0 0 3"/><geom type="plane" size="1 1 .1" rgba=".2 .3 .4 1"/>
<geom type="sphere" size=".3" pos="0 .7 .3" rgba="1 0 0 1"/></worldbody></mujoco>"""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A way to draw: its name, the environment variables that select it, whether it stands for a GPU."""

    name: str
    variables: dict[str, str]
    on_gpu: bool = False


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a backend that works reported: OpenGL's name of the renderer, frames per second at 96 px."""

    backend: Backend
    gl_renderer: str
    frames_per_second: float


BACKENDS = (
    Backend(name="GPU EGL", variables={"MUJOCO_GL": "egl"}, on_gpu=True),
    Backend(name="software EGL", variables={"MUJOCO_GL": "egl", "LIBGL_ALWAYS_SOFTWARE": "1"}),
    Backend(name="OSMesa", variables={"MUJOCO_GL": "osmesa"}),
)


def use_renderer() -> None:
    """Set MUJOCO_GL for this process and its children: as given, as remembered, or found by drawing.

    Raises:
        UserError: no backend draws here, or MUJOCO_GL names none.
    """
    if not use_remembered_renderer():
        os.environ.update(choose_renderer().backend.variables)
    given = os.environ["MUJOCO_GL"]
    if given.lower() not in KNOWN_TO_MUJOCO:
        raise UserError(
            f"MUJOCO_GL={given}: expected one of {', '.join(KNOWN_TO_MUJOCO)}, or unset, to choose what works"
        )


def use_remembered_renderer() -> bool:
    """Set MUJOCO_GL as given or as remembered, without drawing anything. Returns whether it is set."""
    if "MUJOCO_GL" not in os.environ and REMEMBERED.exists():
        words = shlex.split(REMEMBERED.read_text(), comments=True)
        os.environ.update(dict(word.split("=", 1) for word in words if "=" in word))
    return "MUJOCO_GL" in os.environ


def choose_renderer() -> Drawing:
    """Draw with each backend until one works, and remember it where the interpreter's folder is writable.

    Raises:
        UserError: none works; the message says what to install.
    """
    for backend in BACKENDS:
        drawing = try_backend(backend)
        if drawing is not None:
            _remember(backend)
            return drawing
    raise UserError(
        f"off-screen rendering: expected {', '.join(backend.name for backend in BACKENDS)}, found none; "
        f"install it as root with `{INSTALL_LINE}`"
    )


def try_backend(backend: Backend) -> Drawing | None:
    """Draw with `backend` in a new process.

    Returns None if that fails, draws nothing, or finds no GPU where the backend stands for one.
    """
    clean = {name: value for name, value in os.environ.items() if name not in _all_variables()}
    try:
        child = subprocess.run(
            [sys.executable, "-c", "from embodied.rendering_backend import draw_and_print; draw_and_print()"],
            env=clean | backend.variables,
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_DRAW,
        )
    except subprocess.TimeoutExpired:
        return None
    if child.returncode != 0:
        return None
    report = json.loads(child.stdout.splitlines()[-1])
    is_software = any(name in report["gl_renderer"] for name in SOFTWARE_RENDERERS)
    if not report["contrast"] or (backend.on_gpu and is_software):
        return None
    return Drawing(
        backend=backend, gl_renderer=report["gl_renderer"], frames_per_second=report["frames_per_second"]
    )


def draw(frames: int = 30) -> dict[str, str | float]:
    """Draw a small scene with the backend that MUJOCO_GL names.

    Returns `gl_renderer`, `contrast` (brightest minus darkest pixel, 0 to 255) and `frames_per_second`.
    """
    import mujoco
    from OpenGL import GL

    from envs.rendering import SceneRenderer

    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = SceneRenderer(model, width=96, height=96)
    pixels = renderer.render(data, "corner")
    start = time.perf_counter()
    for _ in range(frames):
        renderer.render(data, "corner")
    seconds = time.perf_counter() - start
    gl_renderer = bytes(GL.glGetString(GL.GL_RENDERER) or b"").decode()
    renderer.close()
    contrast = int(pixels.max()) - int(pixels.min())
    return {"gl_renderer": gl_renderer, "contrast": contrast, "frames_per_second": frames / seconds}


def _all_variables() -> set[str]:
    return {name for backend in BACKENDS for name in backend.variables}


def _remember(backend: Backend) -> None:
    if os.access(REMEMBERED.parent, os.W_OK):
        lines = [f"export {name}={shlex.quote(value)}" for name, value in backend.variables.items()]
        REMEMBERED.write_text("\n".join([f"# {backend.name}", *lines, ""]))


def draw_and_print() -> None:
    """What the process that tries a backend runs."""
    print(json.dumps(draw()))


def main() -> int:
    """What scripts/setup.sh calls: choose a backend and remember it, or print the `--install-line`."""
    if sys.argv[1:] == ["--install-line"]:
        print(INSTALL_LINE)
        return 0
    try:
        drawing = choose_renderer()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{drawing.backend.name}, {drawing.gl_renderer}, {drawing.frames_per_second:.0f} frames/s at 96 px")
    return 0
