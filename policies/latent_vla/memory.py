"""Memory: a bank of what was seen in the episode so far, one token per look, read before each decision.

After MemoryVLA (arXiv 2508.19236): the scene retrieves from the bank by cross-attention, a learned gate fuses
what was retrieved into it, and a full bank makes room by merging the two neighbours that are most alike.
What is written is a summary of the scene itself, and where that is asked for of the sub-goal that was said at
it, never of what was read: so a window of looks, whose sub-goals are told, is summarised and read all at once
in training, and only the cheap writes go look by look.

The bank is a value; functions return a new one. Nothing waits for the device, nothing branches on a tensor.

Shapes: B batch, W looks of a window, S tokens of a scene, M capacity of the bank, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from policies.latent_vla.action_head import sinusoidal_embedding
from world_models.transformer import attention, merge_heads, split_heads

IS_FIRST = "observation.is_first"
"""(B * W,) bool in a training batch: the look is an episode's first. Looks of a window stand in a row."""

IS_DECIDED = "observation.is_decided"
"""(B * W,) bool in a training batch: the look is also learned to decide at, not only to remember. As many of
each window; all, where a batch does not tell."""

MEMORIES = ("kept", "wiped", "swapped")
"""What a decision reads at run time: its own bank, an empty one, or, as a control, the bank of the next
episode of the batch, with all that this one would have said by itself."""

LONGEST = 100
"""Looks over which the slowest wave of the embedding of ages makes a quarter turn."""

CLOSED = -1.0
"""Initial bias of the gate: a scene starts out as mostly itself."""


@dataclass(frozen=True, kw_only=True)
class Bank:
    """What B episodes left behind, oldest first.

    tokens: (B, M, D); times: (B, M), looks since the episode's start; count: (B,), how many entries are
    filled, from the front; looks: (B,), how many were ever written.
    """

    tokens: Tensor
    times: Tensor
    count: Tensor
    looks: Tensor

    @property
    def valid(self) -> Tensor:
        """Which entries are filled, (B, M) bool."""
        return torch.arange(self.times.shape[1], device=self.count.device) < self.count[:, None]

    def swapped(self) -> "Bank":
        """Each row's bank in the place of the row before it. ValueError for a single row."""
        if len(self.count) < 2:
            raise ValueError("--policy.memory=swapped: expected two episodes or more at once, found 1")
        return Bank(**{name: value.roll(-1, dims=0) for name, value in vars(self).items()})


def empty_bank(batch: int, capacity: int, dim: int, device: torch.device) -> Bank:
    """A bank of no looks at all."""
    return Bank(
        tokens=torch.zeros(batch, capacity, dim, device=device),
        times=torch.zeros(batch, capacity, device=device),
        count=torch.zeros(batch, dtype=torch.long, device=device),
        looks=torch.zeros(batch, dtype=torch.long, device=device),
    )


def start_afresh(bank: Bank, is_first: Tensor) -> Bank:
    """The bank with the rows emptied where an episode begins. is_first: (B,) bool."""
    goes_on = ~is_first
    return Bank(
        tokens=bank.tokens * goes_on[:, None, None].to(bank.tokens),
        times=bank.times * goes_on[:, None].to(bank.times),
        count=bank.count * goes_on.to(bank.count),
        looks=bank.looks * goes_on.to(bank.looks),
    )


def write(bank: Bank, token: Tensor) -> Bank:
    """The bank with one more look (B, D); where it was full, the two most similar neighbours become one.

    Similar is the cosine of entries next to each other, the new one included; merged is the mean of both,
    of their times as well.
    """
    capacity = bank.times.shape[1]
    index = torch.arange(capacity + 1, device=token.device)
    is_new = index == bank.count[:, None]
    longer = torch.where(is_new[..., None], token[:, None], F.pad(bank.tokens, (0, 0, 0, 1)))
    times = torch.where(is_new, bank.looks[:, None].to(bank.times), F.pad(bank.times, (0, 1)))
    with torch.no_grad():
        alike = F.cosine_similarity(longer[:, :-1], longer[:, 1:], dim=-1).argmax(1)
    joint = torch.where(bank.count == capacity, alike, capacity)[:, None]  # `capacity`: nothing is merged
    index = index[:capacity]
    source = index + (index > joint)
    is_joint = index == joint
    kept = longer.gather(1, source[..., None].expand_as(bank.tokens))
    mean = (longer[:, :-1] + longer[:, 1:]) / 2
    return Bank(
        tokens=torch.where(is_joint[..., None], mean, kept),
        times=torch.where(is_joint, (times[:, :-1] + times[:, 1:]) / 2, times.gather(1, source)),
        count=(bank.count + 1).clamp(max=capacity),
        looks=bank.looks + 1,
    )


class EpisodeMemory(nn.Module):
    """Summarises scenes into tokens of a bank, and fuses scenes with what the bank holds."""

    def __init__(self, *, capacity: int, window: int, dim: int, heads: int, decided: int = 0) -> None:
        """capacity: M; window: W, looks of an episode in a training batch; decided: at how many (0: all)."""
        super().__init__()
        self.capacity, self.window, self.decided = capacity, window, decided or window
        self.dim, self.heads = dim, heads
        self.norm = nn.LayerNorm(dim)
        self.summary_query = nn.Parameter(torch.randn(1, dim) * 0.02)
        self.summary_keys_values = nn.Linear(dim, 2 * dim)
        self.summary_out = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, dim)
        self.age = nn.Linear(dim, dim)
        self.keys_values = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.gate = nn.Linear(2 * dim, dim)
        nn.init.constant_(self.gate.bias, CLOSED)

    def summarise(self, scene: Tensor, said: Tensor | None = None) -> Tensor:
        """What to remember of scenes (B, S, D), and of what was said at them (B, 1, D): (B, D)."""
        scene = scene if said is None else torch.cat([scene, said.to(scene)], dim=1)
        query = split_heads(self.summary_query.expand(scene.shape[0], -1, -1), self.heads)
        keys, values = (
            split_heads(part, self.heads) for part in self.summary_keys_values(self.norm(scene)).chunk(2, -1)
        )
        return self.summary_out(merge_heads(attention(query, keys, values)))[:, 0].float()

    def read(self, scene: Tensor, bank: Bank) -> Tensor:
        """Scenes (B, S, D), fused with what they retrieve; as they were where the bank is empty."""
        if bank.count.shape[0] != scene.shape[0]:
            raise ValueError(
                f"a memory of {len(bank.count)} episodes: expected as many scenes, found {len(scene)}; "
                "reset() forgets it"
            )
        # How long ago, so that the last look and what was said at it are found at once, however late it is.
        entries = bank.tokens + self.age(self._embed(bank.looks[:, None] - bank.times))
        query = split_heads(self.query(self.norm(scene)), self.heads)
        keys, values = (split_heads(part, self.heads) for part in self.keys_values(entries).chunk(2, -1))
        retrieved = self.out(merge_heads(attention(query, keys, values, hidden=~bank.valid)))
        gate = self.gate(torch.cat([scene, retrieved.to(scene)], dim=-1)).sigmoid()
        return scene + gate * (bank.count > 0)[:, None, None].to(gate) * (retrieved - scene)

    def recall(self, scene: Tensor, bank: Bank | None, way: str) -> Tensor:
        """`read` at run time, one of `MEMORIES`; a bank of None is empty."""
        if bank is None or way == "wiped":
            return scene
        return self.read(scene, bank.swapped() if way == "swapped" else bank)

    def keep(self, scene: Tensor, bank: Bank | None, said: Tensor | None = None) -> Bank:
        """The bank with a look at scenes (B, S, D) that was just decided upon; said: as for `summarise`."""
        if bank is None:
            bank = empty_bank(len(scene), self.capacity, self.dim, scene.device)
        return write(bank, self.summarise(scene, said))

    def unroll(self, scenes: Tensor, batch: dict[str, Tensor], said: Tensor | None = None) -> Tensor:
        """Scenes (B * W, S, D) of consecutive looks, each fused with what its episode showed before it.

        said: (B * W, 1, D), what was said at each, to be remembered as well. Raises ValueError for a batch
        without `IS_FIRST`, or not of whole windows.
        """
        if IS_FIRST not in batch:
            raise ValueError(
                f"--policy.memory_tokens={self.capacity}: expected {IS_FIRST} in a batch, as "
                "`embodied train` gives it"
            )
        if len(scenes) % self.window:
            raise ValueError(f"{len(scenes)} looks: expected a multiple of memory_window={self.window}")
        tokens = self.summarise(scenes, said).unflatten(0, (-1, self.window))
        is_first = batch[IS_FIRST].bool().unflatten(0, (-1, self.window))
        bank = empty_bank(len(tokens), self.capacity, self.dim, scenes.device)
        before: list[Bank] = []
        for look in range(self.window):
            before.append(start_afresh(bank, is_first[:, look]))
            bank = write(before[-1], tokens[:, look])
        return self.read(scenes, _in_rows(before))

    def decisions(self, batch: dict[str, Tensor]) -> Tensor | slice:
        """Which rows are decided at, in order: their indices, as many of each window, or all."""
        if IS_DECIDED not in batch:
            return slice(None)
        count = len(batch[IS_DECIDED]) // self.window * self.decided
        return batch[IS_DECIDED].int().topk(count).indices.sort().values

    def _embed(self, ages: Tensor) -> Tensor:
        """Ages in looks (B, M) as waves (B, M, D)."""
        return sinusoidal_embedding(ages.flatten() / LONGEST, self.dim).unflatten(0, ages.shape)


def rows_of(batch: dict[str, Tensor], rows: Tensor | slice) -> dict[str, Tensor]:
    """The tensors of a batch at these rows; all else belongs to no row."""
    return {key: value[rows] for key, value in batch.items() if isinstance(value, Tensor) and value.ndim}


def _in_rows(banks: list[Bank]) -> Bank:
    """W banks of B rows as one of B * W rows, the looks of a window in a row."""
    parts = {name: [getattr(bank, name) for bank in banks] for name in vars(banks[0])}
    return Bank(**{name: torch.stack(values, dim=1).flatten(0, 1) for name, values in parts.items()})
