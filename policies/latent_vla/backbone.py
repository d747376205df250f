"""The backbone reads instruction, scene and state, and carries everything thought so far.

A context grows block by block: the instruction first, then the scene (latent visual tokens and
proprioception), later imagined blocks, last the read-out tokens. Tokens of a block see each other and
everything before them. The keys and values of earlier blocks are kept, so imagination, denoising and
candidate plans never read the scene twice.

Shapes: B batch, L instruction tokens, N new tokens, M tokens after the instruction, D width of what is read,
W width of the hidden states.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from policies.latent_vla.tokenizer import PAD_ID, VOCABULARY

BACKBONES = ("scratch", "pretrained")
"""Trained from nothing with the policy, or a VLM's."""


KeysValues = tuple[tuple[Tensor, Tensor], ...]
"""Per layer, (B, heads, L, head width) each."""


@dataclass(frozen=True)
class Context:
    """What a backbone has read so far; extending it returns a new one and leaves this one as it is.

    keys_values: per layer (B, heads, L + M, head width) each; visible: (B, L + M) bool; states: the hidden
    states of the M tokens after the instruction, per layer (B, M, W), input embeddings first.
    """

    keys_values: KeysValues
    visible: Tensor
    states: tuple[Tensor, ...]

    def rows(self, chosen: slice) -> "Context":
        """The same for some of the batch."""
        return Context(
            keys_values=tuple((keys[chosen], values[chosen]) for keys, values in self.keys_values),
            visible=self.visible[chosen],
            states=tuple(state[chosen] for state in self.states),
        )

    def hidden(self) -> "Context":
        """The same, but what follows sees nothing of it."""
        return Context(
            keys_values=self.keys_values, visible=torch.zeros_like(self.visible), states=self.states
        )

    def with_states(self, states: tuple[Tensor, ...]) -> "Context":
        """The same with more hidden states, per layer (B, N, W), behind those that are there."""
        if self.states:
            states = tuple(torch.cat(pair, dim=1) for pair in zip(self.states, states, strict=True))
        return Context(keys_values=self.keys_values, visible=self.visible, states=states)


class Backbone(Protocol):
    """A language model over instruction, scene, imagined and read-out tokens."""

    dim: int
    width: int
    num_states: int
    vocabulary: int

    def read(self, instruction: Tensor, mask: Tensor) -> Context:
        """instruction: (B, L) ids; mask: (B, L) bool, True on real tokens. The context has no states."""
        ...

    def extend(self, context: Context, blocks: Sequence[Tensor]) -> Context:
        """blocks: embeddings (B, N_i, D), each block blind to those after it. Returns the longer context."""
        ...


class ScratchBackbone(nn.Module):
    """A small transformers causal language model built from its configuration class: downloads nothing."""

    def __init__(self, *, dim: int, depth: int, heads: int, max_instruction_bytes: int) -> None:
        super().__init__()
        settings = {
            "vocab_size": VOCABULARY,
            "hidden_size": dim,
            "intermediate_size": dim * 3,
            "num_hidden_layers": depth,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "max_position_embeddings": max_instruction_bytes + 1024,
            "pad_token_id": PAD_ID,
            "tie_word_embeddings": True,
            # Over a few tokens on a CPU, torch's fused attention is several times slower, above all backward.
            "attn_implementation": "eager",
        }
        self.lm = LlamaForCausalLM(LlamaConfig.from_dict(settings))
        self.dim, self.width, self.num_states = dim, dim, depth + 1
        self.vocabulary = VOCABULARY
        self.max_instruction_bytes = max_instruction_bytes
        self.last_read = LastRead()

    def read(self, instruction: Tensor, mask: Tensor) -> Context:
        """Read the instruction causally; on a CPU each distinct one once, and not again while it stays."""
        if instruction.shape[1] > self.max_instruction_bytes:
            raise ValueError(
                f"instruction of {instruction.shape[1]} bytes: expected at most {self.max_instruction_bytes}"
            )
        positions = torch.arange(instruction.shape[1], device=instruction.device)[None]
        return read_causally(self.lm.model, instruction, mask, positions, self.last_read)

    def extend(self, context: Context, blocks: Sequence[Tensor]) -> Context:
        """Append blocks of embeddings; positions after the instruction do not depend on its length."""
        sizes = [block.shape[1] for block in blocks]
        read = context.states[0].shape[1] if context.states else 0
        start = self.max_instruction_bytes + read
        embeddings = torch.cat(list(blocks), dim=1)
        positions = torch.arange(start, start + sum(sizes), device=embeddings.device)[None]
        longer, states = append_blocks(self.lm.model, context, embeddings, sizes, positions)
        return longer.with_states(states)


class LastRead:
    """What a language model made of the instructions that it read last.

    Through an episode these stay the same, and reading them anew is a good part of a small policy's decision
    on a CPU. Nothing is kept where gradients are wanted, or on an accelerator, which would wait for the
    comparison.
    """

    def __init__(self) -> None:
        """Nothing has been read."""
        self._circumstances: tuple[Any, ...] = ()
        self._rows = self._real = torch.empty(0)
        self._contents: KeysValues = ()

    def get(self, lm: Any, rows: Tensor, real: Tensor, read: Callable[[], KeysValues]) -> KeysValues:
        """What `read` gives, or gave for the same rows and real ones (R, L), by the same weights."""
        if torch.is_grad_enabled() or rows.device.type != "cpu" or torch.compiler.is_compiling():
            return read()
        weights = tuple((id(weight), weight.dtype, weight._version) for weight in lm.parameters())
        circumstances = (torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), weights)
        known = circumstances == self._circumstances
        if not (known and torch.equal(rows, self._rows) and torch.equal(real, self._real)):
            self._circumstances, self._rows, self._real = circumstances, rows.clone(), real.clone()
            self._contents = read()
        return self._contents


def read_causally(
    lm: Any, instruction: Tensor, mask: Tensor, positions: Tensor, last_read: LastRead
) -> Context:
    """What transformers' decoder `lm` makes of instructions (B, L) alone; mask: (B, L), True on real ones."""
    rows, real, row_of = _distinct_rows(instruction, mask.bool())

    def read() -> KeysValues:
        length = instruction.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=instruction.device).tril()
        attend = (causal & real[:, None, :]) | torch.eye(length, dtype=torch.bool, device=instruction.device)
        cache = DynamicCache()
        lm(
            inputs_embeds=lm.embed_tokens(rows),
            attention_mask=_additive(attend),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        return _contents(cache)

    contents = last_read.get(lm, rows, real, read)
    keys_values = tuple(
        (keys.index_select(0, row_of), values.index_select(0, row_of)) for keys, values in contents
    )
    return Context(keys_values=keys_values, visible=mask.bool(), states=())


def append_blocks(
    lm: Any, context: Context, embeddings: Tensor, sizes: Sequence[int], positions: Tensor
) -> tuple[Context, tuple[Tensor, ...]]:
    """Let transformers' decoder `lm` read blocks of these sizes, their embeddings (B, N, W) in a row.

    Returns the context with their keys and values, and the new hidden states, per layer (B, N, W).
    """
    cache = DynamicCache(context.keys_values)
    output = lm(
        inputs_embeds=embeddings,
        attention_mask=_additive(_block_mask(context.visible, sizes)),
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        output_hidden_states=True,
    )
    visible = torch.cat([context.visible, context.visible.new_ones(embeddings.shape[:2])], dim=1)
    longer = Context(keys_values=_contents(cache), visible=visible, states=context.states)
    return longer, output.hidden_states


def _contents(cache: DynamicCache) -> KeysValues:
    """Keys and values of every layer of a filled cache."""
    layers: list[Any] = cache.layers
    return tuple((layer.keys, layer.values) for layer in layers)


def _distinct_rows(instruction: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct rows, their masks, and the index that restores the batch.

    All rows on an accelerator, which would wait, and in an exported graph, whose shapes must not depend on
    what is said.
    """
    if instruction.device.type != "cpu" or torch.compiler.is_exporting():
        return instruction, mask, torch.arange(instruction.shape[0], device=instruction.device)
    both = torch.stack([instruction, mask.to(instruction.dtype)], dim=2)
    rows, row_of = torch.unique(both, dim=0, return_inverse=True)
    return rows[..., 0], rows[..., 1].bool(), row_of


def _additive(attend: Tensor) -> Tensor:
    """The mask (B, N, L) of who sees whom as what eager attention adds to its scores: (B, 1, N, L)."""
    return torch.zeros(attend.shape, device=attend.device).masked_fill_(~attend, -1e4)[:, None]


def _block_mask(visible: Tensor, sizes: Sequence[int]) -> Tensor:
    """Who sees whom, (B, N, L + M + N) bool: the visible past, one's own block and the blocks before it."""
    batch, past = visible.shape
    blocks = [block for block, size in enumerate(sizes) for _ in range(size)]
    block_of = torch.tensor(blocks, device=visible.device)
    new = (block_of[:, None] >= block_of[None, :]).expand(batch, -1, -1)
    return torch.cat([visible[:, None, :].expand(batch, new.shape[1], past), new], dim=2)
