"""What a user runs. Importing it selects the OpenGL backend found at set-up, before MuJoCo binds one."""

from embodied.rendering_backend import use_remembered_renderer

use_remembered_renderer()
