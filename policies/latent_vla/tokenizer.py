"""Byte-level instruction tokens: no vocabulary to download, any language.

transformers' ByT5 tokenizer (arXiv 2105.13626) behind LeRobot's tokenizer step.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from lerobot.processor import ProcessorStepRegistry, TokenizerProcessorStep
from torch import Tensor
from transformers import ByT5Tokenizer

PAD_ID = 0
VOCABULARY = 256 + 3
"""Bytes, and the padding, end and unknown tokens."""


def byte_tokenizer() -> ByT5Tokenizer:
    """A tokenizer whose ids are the UTF-8 bytes plus 3, ended by id 1 and padded with `PAD_ID`."""
    return ByT5Tokenizer(extra_ids=0)


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
