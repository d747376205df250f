"""A tiny latent VLA and a batch for it."""

import pytest
import torch
from lerobot.configs.types import FeatureType, PolicyFeature

from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.tokenizer import byte_tokenizer
from tests.tiny_vlms import write_vlm

CAMERAS = ("observation.images.corner", "observation.images.gripper")


@pytest.fixture
def make_config():
    """Builds a configuration of two 32 px cameras, 4 states and 4 actions; keywords override its fields."""

    def make(**overrides) -> LatentVLAConfig:
        sizes = {"dim": 32, "depth": 2, "heads": 2, "head_dim": 32, "head_depth": 2, "head_heads": 2}
        return LatentVLAConfig(
            device="cpu",
            input_features={
                **{key: PolicyFeature(FeatureType.VISUAL, (3, 32, 32)) for key in CAMERAS},
                "observation.state": PolicyFeature(FeatureType.STATE, (4,)),
            },
            output_features={"action": PolicyFeature(FeatureType.ACTION, (4,))},
            **{**sizes, "num_latents": 3, **overrides},
        )

    return make


@pytest.fixture
def make_policy(make_config):
    """Builds a policy with fixed initial weights."""

    def make(**overrides) -> LatentVLAPolicy:
        torch.manual_seed(0)
        return LatentVLAPolicy(make_config(**overrides))

    return make


@pytest.fixture
def make_batch():
    """Builds a normalised batch: instructions given, the rest random but fixed."""

    def make(instructions=("open the drawer", "reach"), steps=None, horizon=12):
        generator = torch.Generator().manual_seed(1)
        size, time = len(instructions), () if steps is None else (steps,)
        tokens = byte_tokenizer()(list(instructions), padding="longest", return_tensors="pt")
        return {
            **{key: torch.rand(size, *time, 3, 32, 32, generator=generator) for key in CAMERAS},
            "observation.state": torch.randn(size, *time, 4, generator=generator),
            "action": torch.randn(size, horizon, 4, generator=generator),
            "action_is_pad": torch.zeros(size, horizon, dtype=torch.bool),
            "observation.language.tokens": tokens["input_ids"],
            "observation.language.attention_mask": tokens["attention_mask"].bool(),
        }

    return make


@pytest.fixture(scope="session")
def vlm_folder(tmp_path_factory):
    """Folder of a tiny random VLM of a family, written once; not to be changed."""
    folders = {}

    def folder(family):
        if family not in folders:
            folders[family] = write_vlm(tmp_path_factory.mktemp("vlms") / family, family)
        return folders[family]

    return folder
