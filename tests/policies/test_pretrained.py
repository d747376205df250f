"""The latent VLA on a pretrained backbone: what trains, what is saved, how it decides."""

import shutil

import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors

from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.processor_latent_vla import make_latent_vla_pre_post_processors
from tests.tiny_vlms import FAMILIES

every_family = pytest.mark.parametrize("family", FAMILIES)
THINKING = {"imagination": "latent", "world_model": True}


@pytest.fixture
def make_pretrained(make_policy, vlm_folder):
    def make(family="smolvlm", **overrides):
        return make_policy(backbone="pretrained", vlm=str(vlm_folder(family)), **overrides)

    return make


@pytest.fixture
def make_thinking_batch(make_batch):
    """A batch of the present and two moments to come, as the world model wants it."""

    def make():
        batch = make_batch(steps=3, horizon=24)
        return {
            **batch,
            "observation.state_is_pad": torch.zeros(2, 3, dtype=torch.bool),
            "observation.steps_to_success": torch.tensor([20.0, torch.inf]),
            "next.reward": torch.tensor([[0.0, 1.0], [2.0, 3.0]]),
        }

    return make


def train(policy, batch, steps=2):
    """Some steps; the names of the parameters that changed, all that have a gradient."""
    before = {name: value.clone() for name, value in policy.named_parameters()}
    groups = policy.get_optim_params()
    optimizer = torch.optim.Adam([p for group in groups for p in group["params"]], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        policy(batch)[0].backward()
        optimizer.step()
    return {name for name, value in policy.named_parameters() if not torch.equal(value, before[name])}


def of_vlm(names):
    return {name for name in names if ".vlm." in name}


# --- training ---------------------------------------------------------------------------------------


@every_family
def test_a_frozen_vlm_stays_and_all_else_trains(make_pretrained, make_thinking_batch, family):
    policy = make_pretrained(family, **THINKING)
    changed = train(policy, make_thinking_batch(), steps=3)
    assert of_vlm(changed) == set()
    names = {name for name, _ in policy.named_parameters()}
    assert changed == names - of_vlm(names)


@every_family
def test_adapters_train_and_what_they_adapt_stays(make_pretrained, make_batch, family):
    policy = make_pretrained(family, lora_rank=2)
    adapters = {name for name, _ in policy.named_parameters() if ".up." in name or ".down." in name}
    assert len(adapters) == 3 * 7 * 2  # layers, projections, factors
    assert of_vlm(train(policy, make_batch(), steps=3)) == adapters


@every_family
def test_a_vlm_that_is_not_frozen_trains_whole(make_pretrained, make_batch, family):
    policy = make_pretrained(family, freeze_vlm=False)
    changed = train(policy, make_batch(), steps=3)
    assert of_vlm(changed) == of_vlm(name for name, _ in policy.named_parameters())


def test_the_vlm_learns_at_its_own_rate(make_pretrained):
    policy = make_pretrained(lora_rank=2, vlm_lr=3e-5)
    new, vlm = policy.get_optim_params()
    assert "lr" not in new
    assert vlm["lr"] == 3e-5
    assert len(vlm["params"]) == 3 * 7 * 2
    grouped = {id(parameter) for group in (new, vlm) for parameter in group["params"]}
    assert grouped == {id(parameter) for parameter in policy.parameters() if parameter.requires_grad}


def test_a_frozen_vlm_leaves_one_group(make_pretrained, make_policy):
    assert len(make_pretrained().get_optim_params()) == 1
    (group,) = make_policy().get_optim_params()
    assert len(group["params"]) == len(list(make_policy().parameters()))


def test_adapters_change_nothing_at_first(make_pretrained, make_batch):
    plain, adapted = make_pretrained(), make_pretrained(lora_rank=2)
    first, second = (policy._read(make_batch()).keys_values for policy in (plain, adapted))
    assert torch.equal(first[-1][0], second[-1][0])
    train(adapted, make_batch())
    assert not torch.equal(first[-1][0], adapted._read(make_batch()).keys_values[-1][0])


# --- acting -----------------------------------------------------------------------------------------


@every_family
def test_every_mode_decides(make_pretrained, make_batch, family):
    policy, batch = make_pretrained(family, **THINKING, candidates=4), make_batch()
    chunks = {}
    for mode in ("reactive", "imagine", "plan"):
        policy.config.mode = mode
        noise = torch.zeros(2, *policy.config.noise_shape)
        chunks[mode] = policy.predict_action_chunk(batch, noise=noise)
        assert chunks[mode].shape == (2, 12, 4)
        assert chunks[mode].isfinite().all()
    assert not torch.equal(chunks["reactive"], chunks["imagine"])


def test_both_cameras_and_the_instruction_change_the_action(make_pretrained, make_batch):
    """The head's modulation starts at zero and shields what feeds it; a step of training opens it."""
    policy, batch = make_pretrained(), make_batch()
    train(policy, batch)
    noise = torch.zeros(2, 12, 4)
    chunk = policy.predict_action_chunk(batch, noise=noise)
    for key in policy.config.image_features:
        assert not torch.equal(
            chunk, policy.predict_action_chunk({**batch, key: 1 - batch[key]}, noise=noise)
        )
    other = make_batch(instructions=("shut the drawer", "reach"))
    changed = policy.predict_action_chunk({**batch, **{k: other[k] for k in other if "language" in k}}, noise)
    assert not torch.equal(chunk[0], changed[0])
    assert torch.allclose(chunk[1], changed[1], atol=1e-5)


@pytest.mark.gpu
@every_family
def test_a_gpu_decides_as_the_cpu_does(make_pretrained, make_batch, family):
    policy, batch = make_pretrained(family, lora_rank=2), make_batch()
    train(policy, batch)
    noise = torch.zeros(2, 12, 4)
    expected = policy.predict_action_chunk(batch, noise=noise)
    on_gpu = {key: value.cuda() for key, value in batch.items()}
    chunk = policy.cuda().predict_action_chunk(on_gpu, noise=noise.cuda())
    assert torch.allclose(chunk.cpu(), expected, atol=1e-3)


# --- saving and loading -----------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize("overrides", [{}, {"lora_rank": 2, "vlm_layers": 2}, {"freeze_vlm": False}])
def test_a_checkpoint_needs_no_vlm_beside_it(
    make_policy, make_batch, vlm_folder, tmp_path, family, overrides
):
    folder = shutil.copytree(vlm_folder(family), tmp_path / "vlm")
    policy = make_policy(backbone="pretrained", vlm=str(folder), temperature=1.0, **overrides)
    batch, noise = make_batch(), torch.randn(2, 12, 4)
    train(policy, batch)
    policy.save_pretrained(tmp_path / "checkpoint")
    shutil.rmtree(folder)
    loaded = LatentVLAPolicy.from_pretrained(tmp_path / "checkpoint", strict=True)
    assert torch.equal(
        policy.predict_action_chunk(batch, noise=noise), loaded.predict_action_chunk(batch, noise=noise)
    )
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in policy.parameters()]


@every_family
def test_saved_processors_bring_the_vlms_tokens(make_config, vlm_folder, tmp_path, family):
    folder = shutil.copytree(vlm_folder(family), tmp_path / "vlm")
    config = make_config(backbone="pretrained", vlm=str(folder))
    ones = {"mean": torch.zeros(4), "std": torch.ones(4)}
    before, after = make_latent_vla_pre_post_processors(config, {"observation.state": ones, "action": ones})
    for pipeline in (before, after):
        pipeline.save_pretrained(tmp_path / "checkpoint")
    shutil.rmtree(folder)
    loaded, _ = make_pre_post_processors(config, pretrained_path=str(tmp_path / "checkpoint"))
    batch = {"observation.state": torch.zeros(3, 4), "task": ["reach", "", "go"]}
    merged, end = 256, 257
    for pipeline in (before, loaded):
        made = pipeline(dict(batch))
        tokens, mask = (made[f"observation.language.{name}"] for name in ("tokens", "attention_mask"))
        assert tokens[mask].tolist() == [merged, *byte_ids("ach"), end, end, *byte_ids("go"), end]
        assert mask.sum(1).tolist() == [5, 1, 3]
        assert tokens[~mask].tolist() == [0] * 6


def byte_ids(text):
    """Ids of a byte-level vocabulary in the order of its letters, where printable ASCII comes first."""
    return [ord(letter) - ord("!") for letter in text]


def test_building_twice_from_one_configuration_reads_the_vlm_twice(make_config, vlm_folder):
    config = make_config(backbone="pretrained", vlm=str(vlm_folder("smolvlm")))
    first, second = LatentVLAPolicy(config), LatentVLAPolicy(config)
    assert config.vlm_config == {}
    weights = [policy.backbone.vlm.embed_tokens.weight for policy in (first, second)]
    assert torch.equal(*weights)


def test_only_the_policys_own_configuration_describes_the_vlm(make_pretrained, tmp_path):
    policy = make_pretrained("qwen2_5_vl", vlm_layers=2)
    policy.save_pretrained(tmp_path)
    loaded = PreTrainedConfig.from_pretrained(tmp_path)
    assert loaded.vlm_config == policy.config.vlm_config
    assert loaded.vlm_config["config"]["model_type"] == "qwen2_5_vl"
    assert loaded.vlm_config["config"]["text_config"]["num_hidden_layers"] == 2
    assert loaded.vlm_config["size"] == [32, 32]


# --- configuration ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"backbone": "llm"}, "policy.backbone=llm: expected one of scratch, pretrained"),
        ({"backbone": "pretrained"}, "policy.backbone=pretrained: expected --policy.vlm=NAME_OR_FOLDER"),
        ({"vlm": "x/y"}, "policy.vlm=x/y: expected --policy.backbone=pretrained as well"),
        ({"lora_rank": 4}, "policy.lora_rank=4: expected --policy.backbone=pretrained as well"),
        (
            {"backbone": "pretrained", "vlm": "x/y", "world_model_path": "wm"},
            "policy.world_model_path=wm: expected --policy.backbone=scratch as well",
        ),
        ({"vlm_layers": -1}, "policy.vlm_layers=-1: expected at least 0"),
        (
            {"backbone": "pretrained", "vlm": "x/y", "lora_rank": 4, "freeze_vlm": False},
            "policy.lora_rank=4: expected --policy.freeze_vlm=true as well",
        ),
    ],
)
def test_bad_configuration_names_the_value(make_config, overrides, message):
    with pytest.raises(ValueError, match=message):
        make_config(**overrides)


def test_the_base_preset_is_built_on_smolvlm2(make_config):
    config = make_config(preset="base", dim=0)
    assert (config.backbone, config.vlm_layers, config.dim) == ("pretrained", 16, 512)
    assert config.vlm == "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
    assert make_config(preset="base", vlm="a/b", vlm_layers=4).vlm == "a/b"
