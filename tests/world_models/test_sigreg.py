"""SIGReg: integrals known by hand, and gradients of two processes that are those of one."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from world_models.sigreg import random_directions, sigreg

ROOT = Path(__file__).parents[2]
CHILD = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
SAMPLES = 2000
ROOT_2_PI = math.sqrt(2 * math.pi)


def statistic(latents: Tensor) -> float:
    torch.manual_seed(1)
    return float(sigreg(latents, random_directions(latents.shape[-1], 256, torch.device("cpu"))))


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_standard_normal_latents_are_at_the_floor() -> None:
    """Expected: the integral of (1 - phi^2) phi = sqrt(2 pi) (1 - 1 / sqrt 3) = 1.06, whatever N is."""
    floor = ROOT_2_PI * (1 - 3**-0.5)
    assert statistic(normal(SAMPLES, 64)) == pytest.approx(floor, rel=0.25)
    assert statistic(normal(SAMPLES // 10, 64)) == pytest.approx(floor, rel=0.25)


def test_collapsed_latents_score_by_the_integral() -> None:
    """All zero: N times the integral of (1 - phi)^2 phi = sqrt(2 pi) (1 - 2 / sqrt 2 + 1 / sqrt 3)."""
    expected = SAMPLES * ROOT_2_PI * (1 - 2**0.5 + 3**-0.5)
    assert statistic(torch.zeros(SAMPLES, 8)) == pytest.approx(expected, rel=0.03)


def test_scaled_latents_score_by_the_integral() -> None:
    """Deviation 3: N times the integral of (phi^9 - phi)^2 phi, beside the floor."""
    expected = SAMPLES * ROOT_2_PI * (19**-0.5 - 2 * 11**-0.5 + 3**-0.5)
    assert statistic(3 * normal(SAMPLES, 8)) == pytest.approx(expected, rel=0.05)


def test_one_flat_dimension_of_eight_is_noticed() -> None:
    latents = normal(SAMPLES, 8)
    latents[:, 0] = 0
    assert statistic(latents) > 2 * statistic(normal(SAMPLES, 8))


def test_latents_of_a_scene_are_tested_one_by_one() -> None:
    """(N, K, D): the mean over K, not one test of all K N latents."""
    first, second = normal(100, 4), 2 * normal(100, 4) + 1
    together = statistic(torch.stack([first, second], dim=1))
    assert together == pytest.approx((statistic(first) + statistic(second)) / 2)


def test_directions_are_unit_vectors() -> None:
    lengths = random_directions(5, 7, torch.device("cpu")).norm(dim=0)
    assert torch.allclose(lengths, torch.ones(7))


def test_autocast_does_not_round_the_angles() -> None:
    latents = 3 * normal(SAMPLES, 8)
    plain = statistic(latents)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert statistic(latents) == plain


# --- two processes --------------------------------------------------------------------------------


def gradient(inputs: Tensor, directions: Tensor) -> Tensor:
    """Of SIGReg by a linear encoder shared by all processes, in double precision."""
    weight = torch.randn(5, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weight.requires_grad_()
    sigreg((inputs @ weight).unflatten(1, (2, 3)), directions).backward()
    assert weight.grad is not None
    return weight.grad


def batch() -> Tensor:
    """The joint batch: the second half is unlike the first."""
    inputs = torch.randn(12, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    inputs[6:] = 2 * inputs[6:] + 1
    return inputs


def process(folder: Path, rank: int) -> None:
    """One of two: half of the batch, gradients averaged as DDP does; with and without the reduction."""
    half = batch()[6 * rank :][:6]
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    torch.manual_seed(rank)
    directions = random_directions(3, 16, torch.device("cpu")).double()
    joint = gradient(half, directions)
    dist.all_reduce(joint)
    dist.destroy_process_group()
    alone = gradient(half, directions)
    save_file({"directions": directions, "joint": joint / 2, "alone": alone}, folder / f"{rank}.safetensors")


def test_two_processes_give_the_gradient_of_one_on_the_joint_batch(tmp_path: Path) -> None:
    """To double precision; had each looked at its own half only, it would be another gradient."""
    command = [sys.executable, "-W", "error", __file__, str(tmp_path)]
    children = [subprocess.Popen([*command, str(rank)], cwd=ROOT, env=CHILD) for rank in range(2)]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert torch.equal(first["directions"], second["directions"])
    expected = gradient(batch(), first["directions"])
    assert torch.allclose(first["joint"], expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(first["joint"], second["joint"])
    alone = (first["alone"] + second["alone"]) / 2
    assert (alone - expected).norm() > 0.1 * expected.norm()


if __name__ == "__main__":
    process(Path(sys.argv[1]), int(sys.argv[2]))
