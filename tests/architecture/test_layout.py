"""The house as the design draws it: where modules lie, how long they are, who imports whom, which licence."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("embodied", "envs", "policies", "world_models")
LONGEST_MODULE = 400
LONGEST_SCRIPT = 60


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    "path", modules(*PACKAGES, "scripts", "tests"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_module_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("path", modules("scripts"), ids=lambda path: path.name)
def test_no_script_is_longer_than_60_lines_and_its_top_says_how_to_run_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST_SCRIPT
    assert f"scripts/{path.name}" in "\n".join(lines[:12])


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_states_its_idea(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or text.startswith('"""')


def test_the_folders_are_those_of_the_design() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == set(PACKAGES)
    assert (ROOT / "lerobot_policy_embodied.py").is_file()
    for package in ("embodied/data", "embodied/training", "embodied/evaluation", "policies/latent_vla"):
        assert (ROOT / package / "__init__.py").is_file()


def test_tests_mirror_the_packages() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"__pycache__"}
    mirrored = {path.name for package in ("embodied", ".") for path in (ROOT / package).iterdir()}
    assert folders - mirrored <= {"architecture", "end_to_end"}


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    child = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0, child.stdout


def test_lerobot_finds_the_distribution_by_name() -> None:
    names = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    assert "lerobot_policy_embodied" in names


def test_the_licence_is_apache_2_and_the_notice_names_the_sources() -> None:
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
    notice = (ROOT / "NOTICE").read_text()
    assert "Meta-World 3.1.1 (MIT)" in notice
    assert "LeRobot 0.6.1 (Apache-2.0)" in notice
