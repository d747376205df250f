"""The latent VLA policy behind LeRobot's interface."""

import pytest
import torch

from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy


def test_presets_fill_in_what_was_not_given():
    config = LatentVLAConfig(device="cpu", preset="tiny", dim=64, heads=4)
    assert config.dim == 64
    assert config.tower == "strided24"


@pytest.mark.parametrize(("preset", "millions"), [("tiny", 5), ("small", 16)])
def test_presets_keep_their_size(make_config, preset, millions):
    sizes = ("dim", "depth", "heads", "head_dim", "head_depth", "head_heads", "num_latents")
    config = make_config(preset=preset, **dict.fromkeys(sizes, 0))
    parameters = sum(parameter.numel() for parameter in LatentVLAPolicy(config).parameters())
    assert parameters <= millions * 1e6


@pytest.mark.parametrize("action_head", ["flow", "regression"])
def test_one_batch_overfits(make_policy, make_batch, action_head):
    policy, batch = make_policy(action_head=action_head), make_batch()
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    first = policy(batch)[0].item()
    for _ in range(120):
        optimizer.zero_grad()
        loss, _ = policy(batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.35 * first


def test_every_parameter_is_trained(make_policy, make_batch):
    """A second step, since the head's modulation starts at zero and shields what feeds it at first."""
    policy, batch = make_policy(), make_batch()
    optimizer = torch.optim.SGD(policy.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        policy(batch)[0].backward()
        optimizer.step()
    untouched = [name for name, parameter in policy.named_parameters() if parameter.grad is None]
    assert untouched == []


def test_temperature_zero_gives_the_same_chunk_whatever_the_noise(make_policy, make_batch):
    policy, batch = make_policy(temperature=0.0), make_batch()
    assert torch.equal(policy.predict_action_chunk(batch), policy.predict_action_chunk(batch))


def test_the_same_noise_gives_the_same_chunk_and_other_noise_another(make_policy, make_batch):
    policy, batch = make_policy(temperature=1.0), make_batch()
    noise = torch.randn(2, 12, 4)
    chunk = policy.predict_action_chunk(batch, noise=noise)
    assert chunk.shape == (2, 12, 4)
    assert torch.equal(chunk, policy.predict_action_chunk(batch, noise=noise))
    assert not torch.allclose(chunk, policy.predict_action_chunk(batch, noise=noise + 1))


def test_selected_actions_are_the_chunk_in_order(make_policy, make_batch):
    policy, batch = make_policy(n_action_steps=3), make_batch()
    noise = torch.randn(2, 12, 4)
    chunk = policy.predict_action_chunk(batch, noise=noise)
    policy.reset()
    actions = [policy.select_action(batch, noise=noise) for _ in range(3)]
    assert torch.equal(torch.stack(actions, dim=1), chunk[:, :3])


def test_save_and_load_give_identical_actions(make_policy, make_batch, tmp_path):
    policy, batch = make_policy(), make_batch()
    policy.save_pretrained(tmp_path)
    loaded = LatentVLAPolicy.from_pretrained(tmp_path)
    noise = torch.randn(2, 12, 4)
    assert torch.equal(
        policy.predict_action_chunk(batch, noise=noise), loaded.predict_action_chunk(batch, noise=noise)
    )


def test_history_at_run_time_equals_the_training_window(make_policy, make_batch):
    """Three looks in turn give the chunk that a window of the same three frames gives."""
    policy, window = make_policy(n_obs_steps=3, temperature=1.0), make_batch(steps=3)
    noise = torch.randn(2, 12, 4)
    observed = [key for key in window if key.startswith("observation.") and "language" not in key]
    for step in range(3):
        look = {**window, **{key: window[key][:, step] for key in observed}}
        chunk = policy.predict_action_chunk(look, noise=noise)
    latents, state = policy._observe(window)
    expected = policy.head.sample(policy._think(window, latents, state, noise)[0].states, noise)
    assert torch.allclose(chunk, expected, atol=1e-5)


def test_history_offsets_follow_the_execution_stride(make_config):
    assert make_config(n_obs_steps=3, n_action_steps=4).observation_delta_indices == [-8, -4, 0]
    assert make_config().observation_delta_indices is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"mode": "dream"}, "policy.mode=dream: expected one of reactive"),
        ({"preset": "huge"}, "policy.preset=huge: expected one of tiny, small"),
        ({"n_action_steps": 13}, "n_action_steps=13: expected at most chunk_size=12"),
        ({"action_tokens": 5}, "action_tokens=5: expected a divisor of chunk_size=12"),
        ({"temperature": -0.1}, "policy.temperature=-0.1: expected at least 0"),
        ({"depth": -1}, "policy.depth=-1: expected at least 1"),
    ],
)
def test_bad_configuration_names_the_value(make_config, overrides, message):
    with pytest.raises(ValueError, match=message):
        make_config(**overrides)


def test_noise_of_the_wrong_shape_is_refused(make_policy, make_batch):
    with pytest.raises(ValueError, match=r"noise of shape \(2, 3, 4\): expected \(2, 12, 4\)"):
        make_policy().predict_action_chunk(make_batch(), noise=torch.zeros(2, 3, 4))
