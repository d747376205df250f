"""Peers in one harness: `embodied compare` with LeRobot's policies beside ours, on the same seeds."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import embodied.training.world_models  # noqa: F401  (registers the world models)
from embodied.compare import compare
from embodied.config import CompareConfig
from embodied.evaluation.row_log import RowLog
from tests.evaluation.conftest import ACT, LATENT_VLA
from tests.tiny_vlms import END, byte_level_tokenizer, write_vlm

PUSHT = {"type": "embodied_pusht", "width": 64, "height": 64, "episode_length": 6}
OF_TRAINING = {"data": "few", "steps": 1, "batch_size": 2, "mixed_precision": "no"}
CHUNK = {"chunk_size": 4, "n_action_steps": 4}
OURS = {**LATENT_VLA, **CHUNK, "action_tokens": 2}
DIFFUSION = {
    "type": "diffusion",
    "pretrained_backbone_weights": None,
    "use_group_norm": True,
    "horizon": 8,
    "n_action_steps": 4,
    "down_dims": [32, 64],
    "num_inference_steps": 2,
}
TDMPC = {
    "type": "tdmpc",
    "mlp_dim": 32,
    "n_gaussian_samples": 16,
    "n_pi_samples": 4,
    "n_elites": 4,
    "cem_iterations": 1,
}
SMOLVLA = {
    **CHUNK,
    "type": "smolvla",
    "vlm_model_name": "vlm",
    "load_vlm_weights": False,
    "resize_imgs_with_padding": [32, 32],
    "num_vlm_layers": 2,
    "num_steps": 2,
}
ARMS: dict[str, dict[str, Any]] = {
    "ours": OURS,
    "bc": {**OURS, "action_head": "regression"},
    "act": {**ACT, **CHUNK, "type": "act"},
    "diffusion": DIFFUSION,
    "tdmpc": TDMPC,
    "smolvla": SMOLVLA,
}
SEEDS = [100, 101]


def write_vlm_of_smolvla(folder: Path) -> None:
    """SmolVLA asks the tokenizer for the tokens around pictures, by SmolVLM's names."""
    write_vlm(folder, "smolvlm")
    names = ("fake_image_token", "global_image_token", "image_token", "end_of_utterance_token")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_tokenizer().backend_tokenizer,
        eos_token=END,
        pad_token="<|endoftext|>",
        extra_special_tokens={name: f"<{name}>" for name in names},
    )
    tokenizer.save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_peer_is_trained_and_acts_on_the_same_seeds_as_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_vlm_of_smolvla(Path("vlm"))
    arms = {name: {**policy, "device": "cpu"} for name, policy in ARMS.items()}
    declared = {
        "name": "peers",
        "data": {"few": {"env": PUSHT, "episodes": 0, "random_episodes": 2, "workers": 1}},
        "training": {name: {**OF_TRAINING, "policy": policy} for name, policy in arms.items()},
        "arms": {name: {"checkpoint": name} for name in arms},
        "conditions": {"same": PUSHT},
        "training_seeds": [0],
        "episodes": len(SEEDS),
        "first_environment_seed": SEEDS[0],
        "comparisons": [["ours", name] for name in arms if name != "ours"],
    }
    Path("peers.json").write_text(json.dumps(declared))
    result = compare(
        CompareConfig(declaration=Path("peers.json"), output_dir=Path("out"), device="cpu", num_envs=1)
    )
    assert result["done"] == result["units"]
    rows = [row for row in RowLog(Path("out/peers.jsonl")).rows if "declaration" not in row]
    for name in arms:
        assert sorted(row["env_seed"] for row in rows if row["arm"] == name) == SEEDS
