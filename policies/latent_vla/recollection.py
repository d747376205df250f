"""What a policy carries from one decision to the next: a value, so that who serves many episodes keeps many.

B episodes, T history steps, K latent tokens, D width, S state size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.latent_vla.memory import Bank, start_afresh


@dataclass(frozen=True, kw_only=True)
class Recollection:
    """latents: (B, T, K, D) of the last T looks; states: (B, T, S), normalised; bank: the memory, if any."""

    latents: Tensor
    states: Tensor
    bank: Bank | None = None

    def row(self, index: int) -> "Recollection":
        """The same for one of the episodes."""
        chosen = slice(index, index + 1)
        bank = self.bank and Bank(**{name: value[chosen] for name, value in vars(self.bank).items()})
        return Recollection(latents=self.latents[chosen], states=self.states[chosen], bank=bank)


def join(rows: Sequence[Recollection]) -> Recollection:
    """The recollections of several episodes, all with a bank or none, as one."""
    banks = [row.bank for row in rows if row.bank is not None]
    return Recollection(
        latents=torch.cat([row.latents for row in rows]),
        states=torch.cat([row.states for row in rows]),
        bank=Bank(**{name: torch.cat([getattr(bank, name) for bank in banks]) for name in vars(banks[0])})
        if banks
        else None,
    )


def look(
    past: Recollection | None, latents: Tensor, states: Tensor, length: int, is_first: Tensor | None = None
) -> Recollection:
    """One more look, latents (B, 1, K, D) and states (B, 1, S), behind the past; the bank stays.

    length: T. Before the first look it is taken to have been the same. is_first: (B,) bool, for whom an
    episode begins; of None only if there is no past.
    """
    bank = None if past is None else past.bank
    if bank is not None and is_first is not None:
        bank = start_afresh(bank, is_first)
    if past is None or length == 1:
        latents, states = latents.expand(-1, length, -1, -1), states.expand(-1, length, -1)
        return Recollection(latents=latents, states=states, bank=bank)
    seen, felt = past.latents[:, 1:], past.states[:, 1:]
    if is_first is not None:
        seen = torch.where(is_first[:, None, None, None], latents, seen)
        felt = torch.where(is_first[:, None, None], states, felt)
    latents, states = torch.cat([seen, latents], dim=1), torch.cat([felt, states], dim=1)
    return Recollection(latents=latents, states=states, bank=bank)
