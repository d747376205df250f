from pathlib import Path

from embodied.robots.body import read_motor_log
from embodied.serving.tick_log import TickLog
from tests.serving.fakes import rig


def test_every_tick_is_on_record_to_the_last_digit_of_its_command(tmp_path: Path) -> None:
    it = rig()
    log = TickLog(tmp_path / "new" / "ticks.jsonl")
    it.loop._log = log.add
    it.loop.run(1.0)
    it.asker.frozen = True
    it.loop.run(1.0)
    log.close()
    rows = read_motor_log(tmp_path / "new" / "ticks.jsonl")
    assert len(rows) == it.loop.counts.ticks == len(it.robot.log)
    assert [row["command"] for row in rows] == [command.tolist() for command in it.robot.log]
    assert [row["sent"] for row in rows] == it.robot.times
    names = [row["state"] for row in rows]
    assert names[0] == "ready"
    assert names.index("run") < names.index("hold")
    last_action = rows[names.index("hold") - 1]
    assert last_action["left"] == 0
    assert last_action["looked"] < last_action["time"]
    assert rows[-1]["reason"] == "the queue is empty"
