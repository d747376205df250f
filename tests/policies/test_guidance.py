"""Guided latents: where they look follows from the instruction."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from policies.latent_vla.guidance import PIECES, Guidance
from policies.latent_vla.tokenizer import VOCABULARY, byte_tokenizer
from tests.policies.learning import never_trained
from world_models.encoders import VisualEncoder

WORDS = "observation.language.tokens"
MASK = "observation.language.attention_mask"


def tell(instructions: list[str], padding: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens and mask (B, L + padding)."""
    tokens = byte_tokenizer()(instructions, padding="longest", return_tensors="pt")
    return tuple(F.pad(tokens[key], (0, padding)) for key in ("input_ids", "attention_mask"))


def make_guidance(cameras: int = 2, tokens: int = 2, heads: int = 4, channels: int = 5) -> Guidance:
    torch.manual_seed(0)
    return Guidance(vocabulary=VOCABULARY, cameras=cameras, tokens=tokens, heads=heads, channels=channels)


def taught(guidance: Guidance) -> Guidance:
    """Guidance whose instructions matter, as after training; at first they change nothing."""
    torch.manual_seed(1)
    torch.nn.init.normal_(guidance.change.weight, std=0.1)
    return guidance


def test_the_last_latents_alone_depend_on_the_instruction(make_policy, make_batch):
    policy, batch = make_policy(guided_latents=2), make_batch()
    other = batch | {key: batch[key].flip(0) for key in (WORDS, MASK)}
    assert torch.equal(policy._observe(batch)[0], policy._observe(other)[0])  # untrained
    taught(policy.guidance)
    (latents, _), (elsewhere, _) = policy._observe(batch), policy._observe(other)
    assert torch.equal(latents[:, :, :1], elsewhere[:, :, :1])
    assert (latents[:, :, 1:] - elsewhere[:, :, 1:]).abs().amin(dim=(1, 3)).max() > 0


def test_every_look_of_the_history_is_guided_by_its_own_instruction(make_policy, make_batch):
    policy, batch = make_policy(guided_latents=2, n_obs_steps=3), make_batch(steps=3)
    taught(policy.guidance)
    latents, _ = policy._observe(batch)
    for step in range(3):
        look = batch | {key: value[:, step] for key, value in batch.items() if value.dim() == 5}
        look["observation.state"] = batch["observation.state"][:, step]
        torch.testing.assert_close(latents[:, step], policy._observe(look)[0][:, 0])


def test_padding_changes_nothing():
    guidance = taught(make_guidance())
    short, long = (guidance(*tell(["touch the red cube", "reach"], padding)) for padding in (0, 30))
    torch.testing.assert_close(short, long)


def test_one_word_makes_a_difference():
    red, green, again = taught(make_guidance())(
        *tell(["touch the red cube", "touch the green cube", "touch the red cube"])
    )
    assert torch.equal(red, again)
    assert F.cosine_similarity(red.flatten(), green.flatten(), dim=0) < 0.9


def test_every_parameter_is_trained(make_policy, make_batch):
    policy, batch = make_policy(guided_latents=3), make_batch()
    assert never_trained(policy, batch) == []


def test_a_pretrained_backbone_is_guided_as_well(make_policy, make_batch, vlm_folder):
    policy = make_policy(backbone="pretrained", vlm=str(vlm_folder("smolvlm")), guided_latents=1)
    loss, _ = policy(make_batch())
    loss.backward()
    assert policy.guidance.change.weight.grad.abs().max() > 0


def test_without_guided_latents_nothing_is_there(make_policy):
    assert not [name for name in make_policy().state_dict() if name.startswith("guidance")]


def scenes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, list[str]]:
    """Pictures (B, 1, 3, 32, 32) of a red and a green square; where the named one is (B, 2), and its name."""
    pictures = torch.full((count, 3, 32, 32), 0.6)
    places = torch.stack([torch.randperm(36, generator=generator)[:2] for _ in range(count)])
    corners = torch.stack([places // 6 * 5, places % 6 * 5], dim=2)
    for picture, pair in zip(pictures, corners.tolist(), strict=True):
        for channel, (row, column) in enumerate(pair):
            square = picture[:, row : row + 5, column : column + 5]
            square[:], square[channel] = 0.0, 1.0
    named = torch.randint(2, (count,), generator=generator)
    target = corners[torch.arange(count), named].float() / 12.5 - 1
    return pictures[:, None], target, [f"touch the {('red', 'green')[index]} square" for index in named]


def test_what_is_named_is_found_far_sooner():
    """The same network with the words at hand only behind its latents is still far off."""
    errors = {}
    for is_guided in (True, False):
        encoder = VisualEncoder("strided24", cameras=1, tokens=8, heads=4, dim=32)
        guidance = make_guidance(cameras=1, tokens=8, channels=encoder.queries.channels)
        size = 8 * 32 + PIECES
        read = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, 64), nn.GELU(), nn.Linear(64, 2))
        optimizer = torch.optim.AdamW(nn.ModuleList([encoder, guidance, read]).parameters(), lr=1e-3)
        generator = torch.Generator().manual_seed(1)
        losses = []
        for _ in range(60):
            pictures, target, told = scenes(64, generator)
            words = tell(told)
            latents = encoder.encode(pictures, guidance(*words) if is_guided else None)
            loss = F.mse_loss(read(torch.cat([latents.flatten(1), guidance.describe(*words)], dim=1)), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        errors[is_guided] = sum(losses[-15:]) / 15
    assert errors[True] < 0.3 * errors[False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guided_latents": 4}, "--policy.guided_latents=4: expected at most num_latents=3"),
        (
            {"guided_latents": 1, "world_model": True},
            "expected at most num_latents=3, and 0 with world_model",
        ),
        ({"guided_latents": -1}, "--policy.guided_latents=-1: expected at least 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(make_config, changes, message):
    with pytest.raises(ValueError, match=message):
        make_config(**changes)
