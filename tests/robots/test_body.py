from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from embodied.robots.body import BODIES, Body, BodyConfig, make_env, read_motor_log
from embodied.robots.faults import Faults
from tests.robots.bodies import POINT, make_body

Make = Callable[..., Body]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """A body in the folder of the test."""
    monkeypatch.setitem(BODIES, "sim_point", POINT)
    made: list[Body] = []

    def make_one(faults: Faults | None = None) -> Body:
        made.append(make_body(tmp_path, faults))
        return made[-1]

    yield make_one
    for body in made:
        body.close()


def test_a_command_moves_the_robot_at_the_next_tick_and_the_log_has_both(make: Make, tmp_path: Path) -> None:
    body = make()
    body.command(3, np.array([0.5, 0.25]), 0.01)
    assert body.latest(0.02).state.tolist() == [0.0, pytest.approx(0.07)]
    body.tick(0.025)
    reading = body.latest(0.03)
    assert (reading.tick, reading.state.tolist(), reading.is_holding) == (1, [0.5, 0.25], False)
    start, _, command, tick = read_motor_log(tmp_path / "motors.jsonl")
    assert start["names"] == ["dx.pos", "dy.pos"]
    assert command == {"event": "command", "time": 0.01, "sequence": 3, "target": [0.5, 0.25]}
    assert (tick["source"], tick["sequence"], tick["target"]) == ("command", 3, [0.5, 0.25])
    assert tick["position"] == [0.0, pytest.approx(0.07)]


def test_the_robot_holds_when_commands_stop(make: Make, tmp_path: Path) -> None:
    body = make()
    for tick in range(1, 4):
        body.command(tick, np.array([tick / 4, 0.0]), tick / 40)
        body.tick(tick / 40)
    for tick in range(4, 14):
        body.tick(tick / 40)
    log = [line for line in read_motor_log(tmp_path / "motors.jsonl") if line["event"] == "tick"]
    stopped = next(line for line in log if line["source"] == "hold")
    assert stopped["time"] - 3 / 40 <= 0.2
    assert stopped["target"] == [0.75, 0.0]
    assert body.latest(1.0).is_holding


def test_what_is_not_finite_is_logged_but_does_not_move_the_robot(make: Make, tmp_path: Path) -> None:
    body = make()
    body.command(1, np.array([np.nan, 0.5]), 0.0)
    body.tick(0.01)
    *_, command, tick = read_motor_log(tmp_path / "motors.jsonl")
    assert command["target"] == [None, 0.5]
    assert (tick["source"], tick["target"]) == ("refused", [0.0, pytest.approx(0.07)])


def test_a_stuck_joint_stays_where_it_is_whatever_is_commanded(make: Make, tmp_path: Path) -> None:
    body = make(Faults(stuck_joint="dx.pos"))
    body.command(1, np.array([0.75, 0.5]), 0.0)
    body.tick(0.01)
    assert body.latest(0.01).state.tolist() == [0.0, 0.5]
    assert read_motor_log(tmp_path / "motors.jsonl")[-1]["target"] == [0.75, 0.5]
    body.inject(Faults())
    body.command(2, np.array([0.75, 0.5]), 0.02)
    body.tick(0.02)
    assert body.latest(0.02).state.tolist() == [0.75, 0.5]


def test_delays_make_commands_late_and_observations_old(make: Make, tmp_path: Path) -> None:
    body = make(Faults(command_delay=0.049, observation_delay=0.099))
    for tick in range(1, 9):
        body.command(tick, np.array([tick / 10, 0.0]), tick / 40)
        body.tick(tick / 40)
    ticks = [line for line in read_motor_log(tmp_path / "motors.jsonl") if line["event"] == "tick"]
    assert [line["sequence"] for line in ticks] == [-1, -1, 1, 2, 3, 4, 5, 6]
    assert body.latest(8 / 40).tick == 4


def test_lost_frames_show_the_last_picture_again_and_a_seed_repeats_which(make: Make) -> None:
    def brightness(faults: Faults) -> list[int]:
        body, seen = make(faults), []
        for tick in range(1, 21):
            body.command(tick, np.array([tick / 40, 0.0]), tick / 40)
            body.tick(tick / 40)
            seen.append(int(body.latest(tick / 40).pictures["corner"][0, 0, 0]))
        return seen

    lossless, lossy = brightness(Faults()), brightness(Faults(frame_loss=0.5, seed=1))
    assert len(set(lossless)) == 20
    assert 3 < len(set(lossy)) < 17
    assert lossy == sorted(lossy)
    assert lossy == brightness(Faults(frame_loss=0.5, seed=1))


def test_a_new_scene_begins_without_a_command(make: Make) -> None:
    body = make()
    body.command(1, np.array([1.0, 1.0]), 0.0)
    body.tick(0.0)
    assert body.latest(0.0).is_success
    body.reset(3, 0.01)
    reading = body.latest(0.01)
    assert (reading.state.tolist(), reading.is_success) == ([0.0, pytest.approx(0.03)], False)
    body.tick(0.02)
    assert body.latest(0.02).is_holding


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frame_loss": 1.5}, "frame_loss=1.5: expected 0 to 1"),
        ({"command_delay": -1.0}, "command_delay=-1.0: expected 0 to 3600"),
        ({"drop_after": float("nan")}, "drop_after=nan"),
    ],
)
def test_a_fault_that_makes_no_sense_is_named(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Faults(**values)


def test_an_unknown_joint_or_robot_is_named(make: Make) -> None:
    with pytest.raises(ValueError, match=r"stuck_joint=elbow: expected one of dx\.pos, dy\.pos"):
        make(Faults(stuck_joint="elbow"))
    with pytest.raises(ValueError, match="'sim_car': expected one of sim_so101, sim_aloha"):
        make_env(BodyConfig(robot="sim_car", cameras=("front",)))


def test_a_line_of_the_log_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "start"}\n{"eve')
    assert read_motor_log(path) == [{"event": "start"}]
