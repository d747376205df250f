"""Random VLMs of a few thousand parameters, as transformers saves them: configuration, weights, tokenizer and
image processor. Built offline; read back through the real `from_pretrained`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlamaConfig,
    LlavaConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMImageProcessor,
)
from transformers.utils import logging

FAMILIES = ("smolvlm", "qwen2_vl", "qwen2_5_vl", "qwen3_vl")
LAYERS, WIDTH = 3, 32
TEXT = {
    "vocab_size": 300,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
VISION = {"depth": 2, "num_heads": 2, "patch_size": 4, "hidden_size": WIDTH, "initializer_range": 0.2}
LARGER_VISION = {**VISION, "intermediate_size": 48, "out_hidden_size": WIDTH}
END = "<|im_end|>"


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with one merge, two special tokens and no ids beyond them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate([*letters, "re"])}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=[("r", "e")]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token="<|endoftext|>")


def _smolvlm() -> SmolVLMConfig:
    vision = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return SmolVLMConfig(
        text_config={**TEXT, "model_type": "llama"},
        vision_config={**vision, "image_size": 32, "patch_size": 4, "initializer_range": 0.2},
        scale_factor=2,
        image_token_id=299,
        pad_token_id=0,
    )


def _qwen2_vl() -> Qwen2VLConfig:
    vision = {**VISION, "embed_dim": 16, "mlp_ratio": 2}
    return Qwen2VLConfig(text_config={**TEXT, "rope_parameters": MROPE}, vision_config=vision)


def _qwen2_5_vl() -> Qwen2_5_VLConfig:
    vision = {**LARGER_VISION, "window_size": 16, "fullatt_block_indexes": [1]}
    return Qwen2_5_VLConfig(text_config={**TEXT, "rope_parameters": MROPE}, vision_config=vision)


def _qwen3_vl() -> Qwen3VLConfig:
    vision = {**LARGER_VISION, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    text = {**TEXT, "rope_parameters": {**MROPE, "mrope_interleaved": True}}
    return Qwen3VLConfig(text_config=text, vision_config=vision)


def _llava() -> LlavaConfig:
    vision = {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 16}
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    text = {**TEXT, "model_type": "llama"}
    return LlavaConfig(text_config=text, vision_config={**vision, **sizes}, vision_feature_layer=-1)


CONFIGS: dict[str, Callable[[], Any]] = {
    "smolvlm": _smolvlm,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "llava": _llava,
    "llama": lambda: LlamaConfig(**TEXT),
}


def write_vlm(folder: Path, family: str) -> Path:
    """Save a random model of a family, or of one that no VLM of ours has (`llava`, `llama`)."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    torch.manual_seed(0)
    maker = AutoModelForCausalLM if family == "llama" else AutoModelForImageTextToText
    model: Any = maker.from_config(CONFIGS[family]())
    model.save_pretrained(folder)
    _save_processor(folder, family)
    logging.set_verbosity(verbosity)
    return folder


def _save_processor(folder: Path, family: str) -> None:
    tokenizer = byte_level_tokenizer()
    limits = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    images = Qwen2VLImageProcessor(patch_size=4, merge_size=2, size=limits)
    if family in ("qwen2_vl", "qwen2_5_vl"):
        processor = Qwen2VLProcessor if family == "qwen2_vl" else Qwen2_5_VLProcessor
        processor(images, tokenizer, Qwen2VLVideoProcessor()).save_pretrained(folder)
    elif family == "qwen3_vl":
        Qwen3VLProcessor(images, tokenizer, Qwen3VLVideoProcessor()).save_pretrained(folder)
    else:  # a SmolVLMProcessor cannot be built without num2words; these are the files that it would write
        SmolVLMImageProcessor(max_image_size={"longest_edge": 32}).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
