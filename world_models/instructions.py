"""An instruction as one vector, read from its bytes in their order: the goal that outcomes are judged by.

Each byte's embedding carries its position; two convolutions see a few bytes at a time (Kim 2014, arXiv
1408.5882), and what they find is averaged over the text. The language model of a policy reads better, but a
world model on its own has to tell a handful of instructions apart, not more.

B batch, L bytes of the longest instruction, G width of the vector.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL = 5


class InstructionEncoder(nn.Module):
    """Byte-level text to one vector; no text gives zeros."""

    def __init__(self, *, vocabulary: int, max_bytes: int, dim: int) -> None:
        """vocabulary: number of different ids; max_bytes: longest instruction that can be read."""
        super().__init__()
        self.dim, self.max_bytes = dim, max_bytes
        self.embed = nn.Embedding(vocabulary, dim)
        self.positions = nn.Parameter(torch.randn(max_bytes, dim))
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, dim, KERNEL, padding="same") for _ in range(2))
        self.project = nn.Linear(dim, dim, bias=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids: (B, L); mask: (B, L) bool, True on real bytes. Returns (B, G).

        ValueError for an instruction that is too long.
        """
        if ids.shape[1] > self.max_bytes:
            raise ValueError(f"instruction of {ids.shape[1]} bytes: expected at most {self.max_bytes}")
        real = mask.unsqueeze(1).float()  # (B, 1, L); what is not real counts as nothing at every layer
        read = (self.embed(ids) + self.positions[: ids.shape[1]]).transpose(1, 2) * real
        for convolution in self.convolutions:
            read = F.silu(convolution(read)) * real
        mean = read.sum(2) / real.sum(2).clamp_min(1)
        return self.project(mean).float()
