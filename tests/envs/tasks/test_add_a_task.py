"""The task of docs/add_a_task.md, added as it says."""

import re
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from embodied.evaluation.necessity import outcomes
from envs.so101 import SO101Env
from envs.tasks import TASKS

GUIDE = Path(__file__).parents[3] / "docs" / "add_a_task.md"


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    file, entry = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict[str, object] = {"__name__": "envs.tasks.press_button"}
    exec(compile(file, "envs/tasks/press_button.py", "exec"), names)
    monkeypatch.setattr("envs.tasks.TASKS", TASKS)
    monkeypatch.setitem(
        TASKS, "press-button", TASKS["reach-cube"]
    )  # so that it is taken out again afterwards
    exec(entry, names | {"TASKS": TASKS})


@pytest.mark.usefixtures("added")
def test_the_expert_needs_to_know_which_button() -> None:
    assert outcomes(("press-button", "expert", range(20))).count("1") >= 19
    assert 4 <= outcomes(("press-button", "blind", range(20))).count("1") <= 16
    assert outcomes(("press-button", "no-op", range(3))) == "000"


@pytest.mark.usefixtures("added")
@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space")
@pytest.mark.render
def test_it_is_an_environment_like_any_other() -> None:
    env = SO101Env("press-button", width=16, height=16)
    check_env(env, skip_render_check=True)
    env.reset(seed=4)
    assert env.task_description in ("press the red button", "press the blue button")
    first = env.privileged_state()
    env.reset(seed=4)
    np.testing.assert_array_equal(env.privileged_state(), first)
    env.close()
