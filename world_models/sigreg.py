"""SIGReg: keeps latents from collapsing by making every projection of them look like a standard normal.

Epps-Pulley's test statistic on random directions (LeJEPA, arXiv 2511.08544; LeWorldModel, arXiv 2603.19312).
Under data parallelism the characteristic function is averaged over all processes, differentiably, and all
use the same directions: the averaged gradients are those of one process on the joint batch. The statistic
is not additive: accumulating the gradients of small batches is not the gradient of the large one.

N samples, D size of a latent, M random directions, Q points of the characteristic function.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from world_models.parallel import is_distributed

KNOTS = 17
LARGEST_KNOT = 3.0


def random_directions(dim: int, count: int, device: torch.device) -> Tensor:
    """Unit vectors (D, M) from torch's generator; every process gets those of the first."""
    directions = torch.randn(dim, count, device=device)
    if is_distributed():
        dist.broadcast(directions, src=0)
    return directions / directions.norm(dim=0)


def sigreg(latents: Tensor, directions: Tensor) -> Tensor:
    """How far latents are from a standard normal distribution, a scalar from 0 up.

    latents: (N, ..., D), N independent samples of each of the latents in between, which are tested separately
    and averaged; directions: (D, M), whose precision is computed in, under autocast as well: angles are
    sensitive to rounding. Every process must hold equally many samples.
    """
    points = torch.linspace(0, LARGEST_KNOT, KNOTS, device=latents.device, dtype=directions.dtype)
    normal = torch.exp(-points.square() / 2)
    step = LARGEST_KNOT / (KNOTS - 1)
    weights = torch.full_like(points, 2 * step)  # the integrand is even: both halves of the line
    weights[[0, -1]] = step
    with torch.autocast(latents.device.type, enabled=False):
        projected = latents.to(directions.dtype) @ directions
    angles = projected.unsqueeze(-1) * points  # (N, ..., M, Q)
    function = torch.stack([angles.cos().mean(0), angles.sin().mean(0)])
    samples = len(latents)
    if is_distributed():
        function = all_reduce(function) / dist.get_world_size()
        samples *= dist.get_world_size()
    error = (function[0] - normal).square() + function[1].square()
    return samples * (error * normal * weights).sum(-1).mean()
