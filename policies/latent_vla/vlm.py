"""Pretrained vision-language models, taken apart: a vision tower with its connector, and a language model.

Families differ in how pixels become patches, in the size of picture they know, and in how positions are
counted; a small adapter each says how. SmolVLM2 (arXiv 2504.05299) knows squares of one size and counts along
one axis. Qwen-VL (Qwen2-VL, arXiv 2409.12191, Qwen2.5-VL, 2502.13923, and Qwen3-VL, 2511.21631) takes any
size, as a film of equal frames, and counts along three axes (M-RoPE), which are equal for all tokens that are
not patches: latent tokens, which lie nowhere in the picture, count as text.

A description (JSON) tells all that building the network takes but its weights. The output head is dropped,
and so are Qwen3-VL's side paths from the tower to the language model, which only patch tokens could take.

Shapes: B batch, C channels, H x W pixels, h x w grid.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PretrainedConfig,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize
from transformers.utils import logging

Description = dict[str, Any]
"""`config`: transformers' configuration of the VLM; `size`: height and width in pixels of what its tower
sees; `mean`, `std`: of these pixels, per colour."""

ATTENTION = {"text_config": "eager", "vision_config": "sdpa"}
"""The language model reads a few tokens under masks of our own, the tower a thousand patches under none."""


class VisionTower(nn.Module):
    """From normalised pixels to one feature grid of `channels` channels, the language model's width."""

    channels: int


class SmolVLMTower(VisionTower):
    """SigLIP, then a pixel shuffle and a projection."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision, self.connector = model.vision_model, model.connector
        self.channels = model.config.text_config.hidden_size

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, S, S), normalised. Returns (B, C, h, h)."""
        features = self.connector(self.vision(pixel_values=images).last_hidden_state)
        side = math.isqrt(features.shape[1])
        return features.transpose(1, 2).unflatten(2, (side, side))


class QwenTower(VisionTower):
    """A vision transformer over films, whose merger joins `spatial_merge_size` squared patches into one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.visual = model.visual
        self.channels = model.config.text_config.hidden_size

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W), normalised. Returns (B, C, h, w)."""
        sizes = self.visual.config
        patch, merge, frames = sizes.patch_size, sizes.spatial_merge_size, sizes.temporal_patch_size
        rows = images.unflatten(3, (-1, merge, patch)).unflatten(2, (-1, merge, patch))
        cells = rows.permute(0, 2, 5, 3, 6, 1, 4, 7)  # (B, h, w, merge, merge, 3, patch, patch)
        films = cells.unsqueeze(6).expand(*cells.shape[:6], frames, *cells.shape[6:])
        batch, height, width = cells.shape[:3]
        # On the host: transformers reads these numbers there.
        grid = torch.tensor([[1, height * merge, width * merge]]).expand(batch, 3)
        features = self.visual(films.flatten(0, 4).flatten(1), grid_thw=grid).pooler_output
        return features.unflatten(0, (batch, height, width)).movedim(-1, 1)


def _smolvlm_size(config: Any, processor: Any, camera: tuple[int, int], longest: int) -> tuple[int, int]:
    """A square as in pretraining or of the side asked for, of whole tokens."""
    vision = config.vision_config
    token = vision.patch_size * config.scale_factor
    side = max(1, (longest or vision.image_size) // token) * token
    return side, side


def _qwen_size(config: Any, processor: Any, camera: tuple[int, int], longest: int) -> tuple[int, int]:
    """The camera's own size, or scaled to the longest side asked for, in whole tokens."""
    token = config.vision_config.patch_size * config.vision_config.spatial_merge_size
    if not longest:
        limits = processor.size
        return smart_resize(
            *camera, factor=token, min_pixels=limits["shortest_edge"], max_pixels=limits["longest_edge"]
        )
    height, width = (max(1, round(side * longest / max(camera) / token)) * token for side in camera)
    return height, width


@dataclass(frozen=True, kw_only=True)
class Family:
    """What sets one family apart.

    tower: makes the vision tower out of transformers' model; language: picks the language model of it; size:
    pixels that the tower is to see, from the configuration, the image processor, the camera's height and
    width, and the longest side asked for (0: none); axes: along which positions are counted.
    """

    tower: Callable[[Any], VisionTower]
    language: Callable[[Any], Any]
    size: Callable[[Any, Any, tuple[int, int], int], tuple[int, int]]
    axes: int


SMOLVLM = Family(tower=SmolVLMTower, language=lambda model: model.text_model, size=_smolvlm_size, axes=1)
QWEN = Family(tower=QwenTower, language=lambda model: model.language_model, size=_qwen_size, axes=3)

FAMILIES = {"smolvlm": SMOLVLM, "qwen2_vl": QWEN, "qwen2_5_vl": QWEN, "qwen3_vl": QWEN}
"""By the `model_type` of the VLM's configuration."""


@dataclass(frozen=True, kw_only=True)
class VLM:
    """A VLM's parts: the language model without its output head, and the axes it counts positions along."""

    tower: VisionTower
    language: Any
    axes: int


def describe_vlm(name: str, *, layers: int, camera: tuple[int, int], image_size: int) -> Description:
    """The description of a VLM on the hub or in a folder, cut to its first `layers` (0: all).

    camera: height and width of our images; image_size: longest side that the tower is to see, 0 for what
    suits the family. Raises ValueError for an unknown family, and if there is no such VLM.
    """
    with _reading(name, "configuration"):
        settings, _ = PretrainedConfig.get_config_dict(name)
    kind = settings.get("model_type", "without a name")
    if kind not in FAMILIES:
        raise ValueError(
            f"--policy.vlm={name}: an unknown VLM family, {kind}: expected one of {', '.join(FAMILIES)}"
        )
    with _reading(name, "configuration"):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    with _reading(name, "image processor"):
        processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    described = json.loads(config.to_json_string(use_diff=False))
    text, vision = described["text_config"], described["vision_config"]
    if layers > text["num_hidden_layers"]:
        raise ValueError(
            f"--policy.vlm_layers={layers}: expected at most {text['num_hidden_layers']}, those of {name}"
        )
    if layers:
        text["num_hidden_layers"] = layers
        if "layer_types" in text:
            text["layer_types"] = text["layer_types"][:layers]
    if "deepstack_visual_indexes" in vision:
        vision["deepstack_visual_indexes"] = []
    return {
        "config": described,
        "size": list(FAMILIES[kind].size(config, processor, camera, image_size)),
        "mean": list(processor.image_mean),
        "std": list(processor.image_std),
    }


def build_vlm(description: Description, name: str | None) -> VLM:
    """The VLM of a description, with the weights that belong to `name`, or random ones if that is None.

    Raises ValueError if there are no such weights, or if some are missing.
    """
    config = AutoConfig.for_model(**description["config"])
    if name is None:
        model = AutoModelForImageTextToText.from_config(config, attn_implementation=ATTENTION)
    else:
        model = _load(config, name)
    family = FAMILIES[description["config"]["model_type"]]
    return VLM(tower=family.tower(model.model), language=family.language(model.model), axes=family.axes)


def load_tokenizer(name: str) -> Any:
    """The VLM's own tokenizer, of the kind that is one JSON document; ValueError if there is none."""
    with _reading(name, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise ValueError(f"--policy.vlm={name}: expected a tokenizer.json that names an end token")
    return tokenizer


def _load(config: Any, name: str) -> Any:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # layers that were cut off are not worth a table
    try:
        with _reading(name, "weights"):
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                name,
                config=config,
                dtype=torch.float32,
                attn_implementation=ATTENTION,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    finally:
        logging.set_verbosity(verbosity)
    model, report = loaded
    wrong = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if wrong:
        raise ValueError(f"--policy.vlm={name}: {wrong[0]}: expected weights that fit its config.json")
    return model


@contextmanager
def _reading(name: str, part: str) -> Iterator[None]:
    """Tell in one line what of a VLM could not be read."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"--policy.vlm={name}: no {part} to read ({reason}): expected a VLM's folder, or its name on the "
            "hub, with safetensors and no code of its own"
        ) from error
