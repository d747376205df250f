"""Data parallelism: what processes share so that together they compute what one would on the joint batch.

Process r of W holds rows r B to (r + 1) B of a joint batch of W B, and gradients are averaged (DDP). A mean
over what is real in one's own rows is then no share of the joint mean, and noise of one's own is not that of
the joint batch; here are both. Alone, a process pays nothing for it.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def place() -> tuple[int, int]:
    """This process's number r, and how many there are, W."""
    return (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)


def own_rows(joint: Tensor, dim: int = 0) -> Tensor:
    """This process's part of what belongs to the rows of the joint batch, which lie along `dim`."""
    rank, processes = place()
    return joint.chunk(processes, dim=dim)[rank]


def draw_rows(draw: Callable[..., Tensor], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Random numbers of `shape` for one's own rows, (B, ...), as one process would draw them for all.

    draw: such as `torch.randn`. The first process draws for everyone.
    """
    joint = draw((place()[1] * shape[0], *shape[1:]), device=device)
    if is_distributed():
        dist.broadcast(joint, src=0)
    return own_rows(joint)


def masked_average(error: Tensor, real: Tensor) -> Tensor:
    """One's share of the mean of `error` where `real` is not zero, in any of the processes' rows.

    error, real: of one shape, `real` of zeros and ones. The mean of all shares is the joint mean, 0 where
    nothing is real.
    """
    count = real.sum()
    if is_distributed():
        dist.all_reduce(count)
    return (error * real).sum() / count.clamp_min(1) * place()[1]
