"""The backbone: who sees whom, and contexts that grow without reading twice."""

import pytest
import torch

from policies.latent_vla.backbone import ScratchBackbone
from policies.latent_vla.tokenizer import byte_tokenizer


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return ScratchBackbone(dim=16, depth=2, heads=2, max_instruction_bytes=32).eval()


def read(backbone, *instructions):
    tokens = byte_tokenizer()(list(instructions), padding="longest", return_tensors="pt")
    return backbone.read(tokens["input_ids"], tokens["attention_mask"])


def test_growing_block_by_block_equals_reading_at_once(backbone):
    scene, plan = torch.randn(2, 3, 16), torch.randn(2, 2, 16)
    context = read(backbone, "reach", "open the drawer")
    at_once = backbone.extend(context, [scene, plan])
    in_turn = backbone.extend(backbone.extend(context, [scene]), [plan])
    for whole, grown in zip(at_once.states, in_turn.states, strict=True):
        assert torch.allclose(whole, grown, atol=1e-5)
    assert torch.equal(at_once.visible, in_turn.visible)


def test_extending_leaves_the_context_for_other_candidates(backbone):
    context = backbone.extend(read(backbone, "reach"), [torch.randn(1, 3, 16)])
    plan = torch.randn(1, 2, 16)
    first = backbone.extend(context, [plan]).states[-1]
    backbone.extend(context, [torch.randn(1, 2, 16)])
    assert torch.equal(first, backbone.extend(context, [plan]).states[-1])


def test_a_block_sees_itself_and_the_past_but_not_the_future(backbone):
    context = read(backbone, "reach")
    scene, plan = torch.randn(1, 3, 16), torch.randn(1, 2, 16)
    before = backbone.extend(context, [scene, plan]).states[-1]
    changed_plan = backbone.extend(context, [scene, plan + 1]).states[-1]
    assert torch.allclose(before[:, :3], changed_plan[:, :3], atol=1e-6)
    last_moved = scene.clone()
    last_moved[:, -1] += 1
    changed_scene = backbone.extend(context, [last_moved, plan]).states[-1]
    assert not torch.allclose(before[:, 0], changed_scene[:, 0], atol=1e-4)


def test_padding_and_the_rest_of_the_batch_do_not_matter(backbone):
    scene = torch.randn(2, 3, 16)
    batched = backbone.extend(read(backbone, "reach", "open the drawer now"), [scene]).states[-1]
    alone = backbone.extend(read(backbone, "reach"), [scene[:1]]).states[-1]
    assert torch.allclose(batched[:1], alone, atol=1e-5)


def test_the_instruction_changes_the_states(backbone):
    scene = torch.randn(1, 3, 16)
    reach = backbone.extend(read(backbone, "reach"), [scene]).states[-1]
    push = backbone.extend(read(backbone, "pushh"), [scene]).states[-1]
    assert not torch.allclose(reach, push, atol=1e-3)


def test_gradients_reach_the_instruction_embeddings(backbone):
    backbone.extend(read(backbone, "reach"), [torch.randn(1, 3, 16)]).states[-1].sum().backward()
    gradient = backbone.lm.model.embed_tokens.weight.grad
    assert gradient[ord("r") + 3].abs().sum() > 0
    assert gradient[ord("z") + 3].abs().sum() == 0


def test_an_instruction_too_long_is_refused(backbone):
    with pytest.raises(ValueError, match="instruction of 41 bytes: expected at most 32"):
        read(backbone, "x" * 40)


@pytest.fixture
def readings(backbone):
    """One entry for each time that the language model read instructions, how many distinct ones."""
    found = []
    backbone.lm.model.register_forward_pre_hook(
        lambda module, args, given: found.append(len(given["inputs_embeds"])), with_kwargs=True
    )
    return found


@torch.no_grad()
def test_instructions_that_stay_are_read_once(backbone, readings):
    """The same two, in another order and batch, need no second reading; two others and one alone do."""
    first = read(backbone, "reach", "pushh")
    again = read(backbone, "pushh", "reach", "reach")
    assert readings == [2]
    for (keys, _), (kept, _) in zip(first.keys_values, again.keys_values, strict=True):
        assert torch.equal(keys[[1, 0, 0]], kept)
    read(backbone, "reach", "slide")
    read(backbone, "reach")
    assert readings == [2, 2, 1]


@torch.no_grad()
def test_other_weights_read_anew(backbone, readings):
    before = read(backbone, "reach")
    backbone.lm.model.layers[0].self_attn.k_proj.weight.mul_(2)
    after = read(backbone, "reach")
    assert len(readings) == 2
    assert torch.allclose(after.keys_values[0][0], 2 * before.keys_values[0][0])


def test_what_was_read_without_gradients_serves_no_training(backbone, readings):
    with torch.no_grad():
        read(backbone, "reach")
    context = read(backbone, "reach")
    assert len(readings) == 2
    assert context.keys_values[0][0].requires_grad
    with torch.inference_mode():
        read(backbone, "reach")
    with torch.no_grad():
        assert not read(backbone, "reach").keys_values[0][0].is_inference()
