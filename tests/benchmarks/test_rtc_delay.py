from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.benchmarks.rtc_delay import FIRST_SEED, Stage, jumps, run_episodes, summarise
from embodied.errors import UserError
from embodied.evaluation.row_log import RowLog
from embodied.manifest import file_sha256
from embodied.serving.profiles import PROFILES
from embodied.serving.sessions import Outcome
from embodied.serving.specification import Signals, Specification

SO101 = PROFILES["so101"]
JOINTS = Signals(names=SO101.names, units=SO101.units, low=SO101.low, high=SO101.high)


class Turning:
    """Turns the first joint by half a degree a step from where it is; remembers nothing."""

    specification = Specification(
        robot_type="sim_so101",
        cameras={"front": (16, 16, 3)},
        state=JOINTS,
        action=JOINTS,
        fps=30.0,
        chunk_size=10,
        n_action_steps=5,
        modes=("reactive",),
    )

    def noise_shape(self, mode: str, candidates: int = 0) -> tuple[int, ...]:
        return (10, 6)

    def decide(self, mode: str, requests: Any, noise: np.ndarray, past: Any) -> Outcome:
        actions = np.repeat(np.stack([request.state for request in requests])[:, None], 10, axis=1)
        actions[:, :, 0] += 0.5 * np.arange(1, 11)
        return Outcome(actions=actions, normalized=actions, past=[0] * len(requests))


@pytest.mark.render
def test_an_episode_runs_the_same_again_and_keeps_every_limit() -> None:
    stage = Stage(Turning(), None, max_steps=40)
    rows = {arm: stage.play(arm, "100 ms", FIRST_SEED) for arm in ("latest", "ensemble", "sync")}
    assert stage.play("latest", "100 ms", FIRST_SEED) == rows["latest"]
    assert [row["steps"] for row in rows.values()] == [40, 40, 40]
    assert [row["violations"] for row in rows.values()] == [[], [], []]
    # Asked on the first tick, answered three later, again five steps after each look but for the delay.
    assert rows["latest"]["holds"] == 0
    assert rows["sync"]["holds"] >= 2
    assert rows["latest"]["decisions"] > rows["sync"]["decisions"] >= 2
    with pytest.raises(UserError, match="arm rtc: expected a policy with a flow head"):
        stage.play("rtc", "0 ms", FIRST_SEED)


@pytest.mark.render
def test_a_spike_delays_one_decision_by_a_second_and_the_arm_holds() -> None:
    stage = Stage(Turning(), None, max_steps=90)
    assert stage.play("latest", "0 ms", FIRST_SEED)["holds"] == 0
    assert stage.play("latest", "spike of 1 s", FIRST_SEED)["holds"] == 1


def test_a_jump_is_a_change_of_acceleration_where_a_chunk_begins() -> None:
    """Positions 0 0 0 0 1 2 3: the acceleration is 1 at one tick, after 0 and before 0."""
    commands = np.array([0.0, 0, 0, 0, 1, 2, 3])[:, None]
    is_seam = np.array([True, False, False, False, True, False, False])
    assert jumps(commands, is_seam, dt=0.5) == {"seam": 16.0, "inside": pytest.approx(16 / 3)}
    assert jumps(commands[:3], is_seam[:3], dt=0.5) == {"seam": None, "inside": None}


def row(arm: str, condition: str, seed: int, success: bool, **changes: Any) -> dict[str, Any]:
    base = {"arm": arm, "condition": condition, "env_seed": seed, "success": success, "steps": 30}
    return {**base, "holds": 1, "violations": [], "seam": 4.0, "inside": None, **changes}


def test_a_delay_costs_what_the_same_scenes_lose() -> None:
    rows = [row("rtc", "0 ms", seed, True) for seed in range(100)]
    rows += [row("rtc", "300 ms", seed, seed >= 10) for seed in range(50)]
    summary = summarise(rows)
    (cost,) = summary["costs"]
    assert cost["difference"] == pytest.approx(-0.2)
    assert -0.32 < cost["low"] < -0.26  # normal: 0.2 + 1.645 * sqrt(0.16 / 50) = 0.293
    assert cost["episodes"] == 50
    assert not summary["ok"]
    late = next(cell for cell in summary["cells"] if cell["condition"] == "300 ms")
    assert late["success_rate"] == pytest.approx(0.8)
    assert late["seam_rms"] == 2.0
    assert late["inside_rms"] is None
    assert late["seconds"] == pytest.approx(1.0)


def test_the_bar_is_met_without_loss_and_not_with_a_broken_limit() -> None:
    rows = [row("rtc", when, seed, True) for when in ("0 ms", "300 ms") for seed in range(20)]
    assert summarise(rows)["ok"]
    assert not summarise([*rows, row("sync", "0 ms", 0, True, violations=["command 3 is too fast"])])["ok"]
    assert not summarise(rows[:20])["ok"]


def test_what_is_there_is_not_run_again_and_rows_of_another_policy_are_refused(tmp_path: Path) -> None:
    (tmp_path / "MANIFEST.json").write_text("{}")
    settings = {"max_steps": 150, "temperature": 0.0}
    origin = {"checkpoint": file_sha256(tmp_path / "MANIFEST.json"), **settings}
    rows = RowLog(tmp_path / "rows.jsonl")
    rows.append({**row("rtc", "0 ms", FIRST_SEED, True), **origin})
    run_episodes(tmp_path, rows, {("rtc", "0 ms"): 1}, workers=1, max_steps=150, temperature=0.0)
    assert len(rows.rows) == 1
    with pytest.raises(UserError, match=r"has rows with temperature 0.0: expected 1.0"):
        run_episodes(tmp_path, rows, {}, workers=1, max_steps=150, temperature=1.0)
