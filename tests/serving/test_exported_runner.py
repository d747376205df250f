"""How an export spells instructions, and that it needs no torch; what it decides: tests/export."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embodied.errors import UserError
from embodied.serving.exported_runner import ByteTokenizer, ExportedRunner
from policies.latent_vla.tokenizer import ByteTokenizerStep
from tests.checkpoints import save_checkpoint

ROOT = Path(__file__).parents[2]
LIGHT = """
import sys
import embodied.serving.exported_runner
heavy = {"torch", "lerobot", "transformers", "safetensors", "timm", "draccus", "datasets", "onnx"}
print(sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""


def test_running_an_export_imports_no_training_dependency() -> None:
    child = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True)
    assert child.stdout == "[]\n", child.stderr


def test_a_checkpoint_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no exported policy: expected a folder that `embodied export`"):
        ExportedRunner(save_checkpoint(tmp_path / "checkpoint"))


@pytest.fixture
def spell() -> Callable[[list[str]], tuple[np.ndarray, np.ndarray]]:
    return ByteTokenizer(offset=3, end=1, longest=64).encode


def test_instructions_are_spelled_as_in_training(spell: Callable) -> None:
    texts = ["reach", " öffne die  Schublade\n", "机器人", "a", "open </s> it", "</s>", "a<pad> <unk>"]
    tokens, mask = spell(texts)
    step = ByteTokenizerStep(max_length=64)
    expected = step._tokenize_text(texts)
    np.testing.assert_array_equal(tokens, expected["input_ids"])
    np.testing.assert_array_equal(mask, expected["attention_mask"].bool())
    assert tokens[5].tolist()[:5] == [ord(letter) + 3 for letter in "</s>"] + [1]


def test_no_instruction_is_an_end_alone(spell: Callable) -> None:
    tokens, mask = spell([""])
    assert tokens.tolist() == [[1, 0]]
    assert mask.tolist() == [[True, False]]


def test_an_instruction_that_is_too_long_is_refused(spell: Callable) -> None:
    with pytest.raises(UserError, match="instruction of 65 bytes: expected at most 64"):
        spell(["x" * 64])
