"""Pretrained VLMs taken apart: the parts do what the whole did, and what cannot be read is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText

from policies.latent_vla.backbone import append_blocks
from policies.latent_vla.pretrained import PretrainedBackbone, VLMEncoder
from policies.latent_vla.vlm import build_vlm, describe_vlm, load_tokenizer
from tests.tiny_vlms import FAMILIES, LAYERS, WIDTH

every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture
def described(vlm_folder):
    def describe(family, layers=0, camera=(32, 32), image_size=0):
        return describe_vlm(str(vlm_folder(family)), layers=layers, camera=camera, image_size=image_size)

    return describe


@pytest.fixture
def make_backbone(described, vlm_folder):
    def make(family, layers=0):
        torch.manual_seed(0)
        vlm = build_vlm(described(family, layers), str(vlm_folder(family)))
        return PretrainedBackbone(vlm, dim=16).eval()

    return make


def read(backbone, *instructions):
    lengths = [len(instruction) for instruction in instructions]
    tokens = torch.zeros(len(instructions), max(lengths), dtype=torch.long)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for row, instruction in enumerate(instructions):
        tokens[row, : len(instruction)] = torch.tensor(list(instruction.encode()))
        mask[row, : len(instruction)] = True
    return backbone.read(tokens, mask)


# --- vision tower -----------------------------------------------------------------------------------


@every_family
def test_the_tower_sees_what_the_whole_vlm_sees(family, vlm_folder, described):
    """Against transformers' own image processor and features, in the order of its patch tokens."""
    folder = vlm_folder(family)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    processor = AutoImageProcessor.from_pretrained(folder)
    settings = {"do_resize": False, "return_tensors": "pt"}
    if family == "smolvlm":
        settings |= {"do_image_splitting": False}
    inputs = processor(images=[Image.fromarray(pixels)], **settings)
    inputs.pop("pixel_attention_mask", None)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    features = model.get_image_features(**inputs).pooler_output
    expected = features[0] if isinstance(features, (tuple, list)) else features.flatten(0, -2)

    description = described(family)
    tower = build_vlm(description, str(folder)).tower.eval()
    image = torch.tensor(pixels).movedim(-1, 0)[None] / 255
    mean, std = (torch.tensor(description[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        grid = tower((image - mean) / std)
    assert grid.shape == (1, WIDTH, 4, 4)
    assert torch.allclose(grid.flatten(2)[0].T, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "camera", "image_size", "size"),
    [
        ("smolvlm", (48, 64), 0, [32, 32]),  # as in pretraining
        ("smolvlm", (48, 64), 20, [16, 16]),  # whole tokens of 8 pixels
        ("qwen2_5_vl", (48, 64), 0, [48, 64]),  # as the camera sees
        ("qwen2_5_vl", (8, 8), 0, [16, 16]),  # the image processor's least
        ("qwen2_5_vl", (48, 64), 32, [24, 32]),
    ],
)
def test_the_tower_sees_pictures_of_a_size_that_suits_it(described, family, camera, image_size, size):
    assert described(family, camera=camera, image_size=image_size)["size"] == size


@every_family
def test_the_encoder_gives_latent_tokens_for_cameras_of_any_size(family, vlm_folder, described):
    description = described(family, camera=(40, 56))
    tower = build_vlm(description, str(vlm_folder(family))).tower
    encoder = VLMEncoder(tower, description, cameras=2, tokens=3, heads=2, dim=16)
    images = torch.rand(2, 2, 3, 40, 56)
    latents = encoder.encode(images)
    assert latents.shape == (2, 3, 16)
    assert torch.allclose(encoder.encode(images[:1]), latents[:1], atol=1e-5)
    assert not torch.allclose(encoder.encode(images.flip(1)), latents, atol=1e-3)
    with pytest.raises(ValueError, match="1 cameras: expected 2, as in training"):
        encoder.encode(images[:, :1])


# --- language model -----------------------------------------------------------------------------------


@every_family
def test_word_after_word_the_language_model_is_the_whole_vlm(family, vlm_folder, make_backbone):
    """An instruction read, padded to another's length, then words appended one by one: positions and masks
    are right if the states are those of transformers' model on the same words in one go."""
    backbone = make_backbone(family)
    context = read(backbone, "reach", "open the drawer")
    words = torch.tensor(list(b"now"))
    reference = AutoModelForImageTextToText.from_pretrained(vlm_folder(family)).eval().model
    for row, instruction in ((0, b"reach"), (1, b"open the drawer")):
        sentence = torch.tensor([[*instruction, *b"now"]])
        expected = reference(input_ids=sentence).last_hidden_state[0, -3:]
        grown = context
        for index, word in enumerate(words):
            embedding = backbone.vlm.embed_tokens(word).expand(2, 1, -1)
            positions = backbone._along_axes(grown.visible.sum(1, keepdim=True))
            grown, states = append_blocks(backbone.vlm, grown, embedding, [1], positions)
            assert torch.allclose(states[-1][row, 0], expected[index], atol=1e-5)


@every_family
def test_growing_block_by_block_equals_reading_at_once(family, make_backbone):
    backbone = make_backbone(family)
    scene, plan = torch.randn(2, 3, 16), torch.randn(2, 2, 16)
    context = read(backbone, "reach", "open the drawer")
    at_once = backbone.extend(context, [scene, plan])
    in_turn = backbone.extend(backbone.extend(context, [scene]), [plan])
    assert len(at_once.states) == backbone.num_states == LAYERS + 1
    assert at_once.states[0].shape == (2, 5, backbone.width) == (2, 5, WIDTH)
    for whole, grown in zip(at_once.states, in_turn.states, strict=True):
        assert torch.allclose(whole, grown, atol=1e-5)


@every_family
def test_a_block_sees_itself_and_the_past_but_not_the_future(family, make_backbone):
    backbone = make_backbone(family)
    context = read(backbone, "reach")
    scene, plan = torch.randn(1, 3, 16), torch.randn(1, 2, 16)
    before = backbone.extend(context, [scene, plan]).states[-1]
    changed_plan = backbone.extend(context, [scene, plan.flip(1)]).states[-1]
    assert torch.allclose(before[:, :3], changed_plan[:, :3], atol=1e-6)
    assert not torch.allclose(before[:, 3:], changed_plan[:, 3:], atol=1e-3)
    last_moved = torch.cat([scene[:, :2], -scene[:, 2:]], dim=1)
    changed_scene = backbone.extend(context, [last_moved, plan]).states[-1]
    assert not torch.allclose(before[:, 0], changed_scene[:, 0], atol=1e-4)


@every_family
def test_padding_and_the_rest_of_the_batch_do_not_matter(family, make_backbone):
    backbone = make_backbone(family)
    scene = torch.randn(2, 3, 16)
    batched = backbone.extend(read(backbone, "reach", "open the drawer now"), [scene]).states[-1]
    alone = backbone.extend(read(backbone, "reach"), [scene[:1]]).states[-1]
    assert torch.allclose(batched[:1], alone, atol=1e-5)
    other = backbone.extend(read(backbone, "reacj"), [scene[:1]]).states[-1]
    assert not torch.allclose(alone, other, atol=1e-4)


@every_family
def test_a_hidden_instruction_tells_nothing(family, make_backbone):
    backbone = make_backbone(family)
    scene = torch.randn(1, 3, 16)
    reach = backbone.extend(read(backbone, "reach").hidden(), [scene]).states[-1]
    push = backbone.extend(read(backbone, "push the button").hidden(), [scene]).states[-1]
    assert torch.allclose(reach, push, atol=1e-5)


@every_family
def test_the_first_layers_are_those_of_the_whole(family, make_backbone):
    whole, short = make_backbone(family), make_backbone(family, layers=2)
    scene = torch.randn(1, 3, 16)
    states = [backbone.extend(read(backbone, "reach"), [scene]).states for backbone in (whole, short)]
    assert short.num_states == len(states[1]) == 3
    assert torch.allclose(states[0][1], states[1][1], atol=1e-6)
    assert len(short.vlm.layers) == 2


# --- reading from disk ------------------------------------------------------------------------------


@every_family
def test_the_tokenizer_is_the_vlms_own(family, vlm_folder):
    tokenizer = load_tokenizer(str(vlm_folder(family)))
    assert tokenizer.convert_ids_to_tokens(tokenizer("reach")["input_ids"]) == ["re", "a", "c", "h"]


@pytest.mark.parametrize("family", ["llava", "llama"])
def test_another_family_is_refused_by_name(vlm_folder, family):
    folder = str(vlm_folder(family))
    expected = (
        f"--policy.vlm={folder}: an unknown VLM family, {family}: expected one of {', '.join(FAMILIES)}"
    )
    with pytest.raises(ValueError, match="an unknown VLM family") as raised:
        describe_vlm(folder, layers=0, camera=(32, 32), image_size=0)
    assert str(raised.value) == expected


@pytest.mark.parametrize("name", ["/no/such/folder", "nobody/no-such-vlm", "no spaces allowed"])
def test_a_vlm_that_is_not_there_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match="expected a VLM's folder, or its name on the hub") as raised:
        describe_vlm(name, layers=0, camera=(32, 32), image_size=0)
    assert str(raised.value).startswith(f"--policy.vlm={name}: no configuration to read (")
    assert "\n" not in str(raised.value)


def test_more_layers_than_there_are_is_refused(described):
    with pytest.raises(ValueError, match=r"policy\.vlm_layers=4: expected at most 3"):
        described("smolvlm", layers=4)


def read_all(name):
    load_tokenizer(name)
    build_vlm(describe_vlm(name, layers=0, camera=(32, 32), image_size=0), name)


@pytest.mark.parametrize(
    ("missing", "part"),
    [
        ("model.safetensors", "weights"),
        ("preprocessor_config.json", "image processor"),
        ("tokenizer.json", "tokenizer"),
    ],
)
def test_a_folder_that_is_not_complete_is_refused(vlm_folder, tmp_path, missing, part):
    folder = shutil.copytree(vlm_folder("smolvlm"), tmp_path / "vlm")
    (folder / missing).unlink()
    if part == "tokenizer":
        (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=f"no {part} to read") as raised:
        read_all(str(folder))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [("num_hidden_layers", 4, "text_model.layers.3"), ("vocab_size", 310, "lm_head.weight")],
)
def test_weights_that_do_not_fit_the_configuration_are_refused(
    vlm_folder, tmp_path, setting, value, expected
):
    folder = shutil.copytree(vlm_folder("smolvlm"), tmp_path / "vlm")
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"][setting] = value
    (folder / "config.json").write_text(json.dumps(settings))
    description = describe_vlm(str(folder), layers=0, camera=(32, 32), image_size=0)
    with pytest.raises(ValueError, match="weights that fit its config") as raised:
        build_vlm(description, str(folder))
    assert expected in str(raised.value)
