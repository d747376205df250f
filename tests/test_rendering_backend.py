"""The choice of a way to draw: given, remembered, or found by drawing, in a fixed order."""

import os
from pathlib import Path

import pytest

from embodied import rendering_backend as backend
from embodied.errors import UserError


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty place to remember the choice in, and an environment without one."""
    monkeypatch.setattr(backend, "REMEMBERED", tmp_path / "renderer.env")
    for name in ("MUJOCO_GL", "LIBGL_ALWAYS_SOFTWARE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path / "renderer.env"


def only_works(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    tried: list[str] = []

    def attempt(candidate: backend.Backend) -> backend.Drawing | None:
        tried.append(candidate.name)
        works = candidate.name in names
        return backend.Drawing(backend=candidate, gl_renderer="", frames_per_second=1.0) if works else None

    monkeypatch.setattr(backend, "try_backend", attempt)
    return tried


def test_the_first_that_works_is_taken_and_remembered(monkeypatch: pytest.MonkeyPatch, memory: Path) -> None:
    tried = only_works(monkeypatch, "software EGL", "OSMesa")
    backend.use_renderer()
    assert tried == ["GPU EGL", "software EGL"]
    assert (os.environ["MUJOCO_GL"], os.environ["LIBGL_ALWAYS_SOFTWARE"]) == ("egl", "1")
    assert memory.read_text() == "# software EGL\nexport MUJOCO_GL=egl\nexport LIBGL_ALWAYS_SOFTWARE=1\n"


def test_what_is_remembered_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, memory: Path) -> None:
    tried = only_works(monkeypatch, "OSMesa")
    memory.write_text("# OSMesa\nexport MUJOCO_GL=osmesa\n")
    backend.use_renderer()
    assert tried == []
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_what_the_user_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = only_works(monkeypatch, "OSMesa")
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    backend.use_renderer()
    assert tried == []
    assert os.environ["MUJOCO_GL"] == "glfw"


def test_without_any_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    only_works(monkeypatch)
    with pytest.raises(UserError, match="apt-get install -y libegl1"):
        backend.use_renderer()


def test_a_backend_that_cannot_start_is_none() -> None:
    broken = backend.Backend(name="broken", variables={"MUJOCO_GL": "no-such-thing"})
    assert backend.try_backend(broken) is None


@pytest.mark.render
def test_one_backend_draws_on_this_machine() -> None:
    drawing = backend.choose_renderer()
    assert drawing.frames_per_second > 0
    is_software = any(name in drawing.gl_renderer for name in backend.SOFTWARE_RENDERERS)
    assert not (drawing.backend.on_gpu and is_software)
