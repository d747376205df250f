import mujoco
import numpy as np

from envs.meshes import SMALLEST_MESH, _surviving_faces, simplify_meshes


def grid_model(cells: int) -> mujoco.MjModel:
    """A flat sheet of 10 cm, of 2 * cells * cells triangles, that is no plane only because of its one tip."""
    steps = np.linspace(-0.05, 0.05, cells + 1)
    vertices = [f"{x} {y} 0" for x in steps for y in steps] + ["0 0 0.05"]
    faces = []
    for i in range(cells):
        for j in range(cells):
            a, b = i * (cells + 1) + j, (i + 1) * (cells + 1) + j
            faces += [f"{a} {b} {b + 1}", f"{a} {b + 1} {a + 1}"]
    tip = (cells + 1) ** 2
    faces += [f"0 {cells} {tip}", f"{cells} {tip - 1} {tip}"]
    return mujoco.MjModel.from_xml_string(
        f"""<mujoco><asset>
        <mesh name="m" inertia="shell" vertex="{" ".join(vertices)}" face="{" ".join(faces)}"/>
        </asset><worldbody><geom type="mesh" mesh="m"/></worldbody></mujoco>"""
    )


def test_triangles_that_collapse_or_repeat_are_dropped() -> None:
    corners = np.array([[0, 1, 2], [0, 0, 1], [2, 0, 1], [3, 1, 3], [1, 2, 3]])
    assert _surviving_faces(corners).tolist() == [0, 4]


def test_a_fine_mesh_is_thinned_and_no_vertex_moves_further_than_the_cell_is_wide() -> None:
    model = grid_model(40)
    before, faces = model.mesh_vert.copy(), int(model.mesh_facenum[0])
    simplify_meshes(model, cell=0.01)
    assert faces == 2 * 40 * 40 + 2
    assert 150 <= model.mesh_facenum[0] <= 400
    moved = np.linalg.norm(model.mesh_vert - before, axis=1)
    assert 0 < moved.max() <= 0.01 * np.sqrt(3)
    kept = model.mesh_face[: model.mesh_facenum[0]]
    assert len(np.unique(np.sort(kept, axis=1), axis=0)) == len(kept)


def test_a_coarse_mesh_is_left_alone() -> None:
    model = grid_model(10)
    before = model.mesh_vert.copy()
    simplify_meshes(model, cell=0.05)
    assert model.mesh_facenum[0] == 202 < SMALLEST_MESH
    np.testing.assert_array_equal(model.mesh_vert, before)
