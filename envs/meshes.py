"""Fewer triangles for pictures in which one pixel covers many: vertex clustering on a MuJoCo model.

The Sawyer arm has 65,000 triangles, of which a 96-pixel picture shows a few hundred. Vertices that fall in
the same small cube become one, and triangles that collapse are dropped (Rossignac and Borrel, 1993).
F triangles of a mesh.
"""

import mujoco
import numpy as np

SMALLEST_MESH = 2000


def simplify_meshes(model: mujoco.MjModel, cell: float) -> None:
    """Cluster, in place, the vertices of every mesh of at least SMALLEST_MESH triangles.

    cell: edge of the clustering cubes in metres. The model is then good for pictures only: give a copy, never
    the model that is simulated.
    """
    for mesh in range(model.nmesh):
        if model.mesh_facenum[mesh] >= SMALLEST_MESH:
            _simplify_mesh(model, mesh, cell)


def _simplify_mesh(model: mujoco.MjModel, mesh: int, cell: float) -> None:
    first = model.mesh_vertadr[mesh]
    vertices = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
    start, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    old = slice(start, start + count)
    _, cluster = np.unique(np.floor(vertices / cell).astype(np.int64), axis=0, return_inverse=True)
    cluster = cluster.ravel()
    size = np.bincount(cluster)
    centre = np.stack([np.bincount(cluster, vertices[:, axis]) / size for axis in range(3)], axis=1)
    kept = _surviving_faces(cluster[model.mesh_face[old]])
    new = slice(start, start + len(kept))
    for name in ("mesh_face", "mesh_facenormal", "mesh_facetexcoord"):
        faces = getattr(model, name)
        faces[new] = faces[old][kept]
    vertices[:] = centre[cluster]
    model.mesh_facenum[mesh] = len(kept)


def _surviving_faces(corners: np.ndarray) -> np.ndarray:
    """Return the indices of triangles (F, 3) whose three corners differ, each set of corners once."""
    ordered = np.sort(corners, axis=1)
    _, first = np.unique(ordered, axis=0, return_index=True)
    is_triangle = (ordered[first, 0] != ordered[first, 1]) & (ordered[first, 1] != ordered[first, 2])
    return np.sort(first[is_triangle])
