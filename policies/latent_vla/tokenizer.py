"""Instruction tokens, behind LeRobot's tokenizer step.

Bytes for a backbone from scratch: no vocabulary to download, any language (transformers' ByT5 tokenizer,
arXiv 2105.13626). For a pretrained backbone the VLM's own tokens, whose vocabulary checkpoints hold.

B batch, L tokens of the longest instruction.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from lerobot.processor import ProcessorStepRegistry, TokenizerProcessorStep
from tokenizers import Tokenizer
from torch import Tensor
from transformers import ByT5Tokenizer

PAD_ID = 0
VOCABULARY = 256 + 3
"""Bytes, and the padding, end and unknown tokens."""


def byte_tokenizer() -> ByT5Tokenizer:
    """A tokenizer whose ids are the UTF-8 bytes plus 3, ended by id 1 and padded with `PAD_ID`.

    What reads like a special token in an instruction, such as `</s>`, is spelled like any other text.
    """
    return ByT5Tokenizer(extra_ids=0, split_special_tokens=True)


@ProcessorStepRegistry.register(name="latent_vla_byte_tokenizer")
@dataclass
class ByteTokenizerStep(TokenizerProcessorStep):
    """Adds `observation.language.tokens` (B, L) and its mask; L is the longest instruction's length."""

    tokenizer: Any = field(default_factory=byte_tokenizer)
    padding: str = "longest"
    truncation: bool = False

    def _tokenize_text(self, text: str | list[str]) -> dict[str, Tensor]:
        """Tokenize each distinct instruction once: a batch holds few."""
        texts = [text] if isinstance(text, str) else text
        distinct = sorted(set(texts))
        tokens = super()._tokenize_text(distinct)
        rows = torch.tensor([distinct.index(item) for item in texts])
        return {name: value[rows] for name, value in tokens.items()}


class EndedTokenizer:
    """A vocabulary behind what LeRobot's step calls: instructions ended by the token `end`, right-padded.

    Padding has id 0, which may be a word of the VLM: the mask alone tells.
    """

    def __init__(self, vocabulary: Tokenizer, end: int) -> None:
        self.vocabulary, self.end = vocabulary, end

    def __call__(self, texts: list[str], **settings: Any) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, (B, L) each; LeRobot's settings for padding have no say."""
        encodings = self.vocabulary.encode_batch(texts, add_special_tokens=False)
        rows = [[*encoding.ids, self.end] for encoding in encodings]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        lengths = torch.tensor([len(row) for row in rows])
        return {"input_ids": ids, "attention_mask": torch.arange(ids.shape[1]) < lengths[:, None]}


@ProcessorStepRegistry.register(name="latent_vla_vlm_tokenizer")
@dataclass
class VLMTokenizerStep(ByteTokenizerStep):
    """The same with a VLM's tokens. The tokenizer, one JSON document, is the step's state, saved as bytes."""

    tokenizer: Any = None

    def __post_init__(self) -> None:
        """Without a tokenizer until `load_state_dict` brings it."""
        self.input_tokenizer = self.tokenizer

    def state_dict(self) -> dict[str, Tensor]:
        """`document`: UTF-8 bytes; `end`: the id of the end token."""
        document = bytearray(self.input_tokenizer.vocabulary.to_str().encode())
        return {
            "document": torch.frombuffer(document, dtype=torch.uint8),
            "end": torch.tensor(self.input_tokenizer.end),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the saved tokenizer's place."""
        document = state["document"].cpu().numpy().tobytes().decode()
        self.input_tokenizer = EndedTokenizer(Tokenizer.from_str(document), int(state["end"]))
