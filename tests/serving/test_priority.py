import os
import sys
import threading
from collections.abc import Callable

import pytest

from embodied.errors import UserError
from embodied.serving.priority import hurry


def in_a_thread(work: Callable[[], object]) -> object:
    """Its scheduling ends with it."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_short_slices_need_no_privilege_and_keep_the_niceness() -> None:
    def work() -> tuple[str, int, int]:
        return hurry(), os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert in_a_thread(work) in [(how, os.SCHED_OTHER, before) for how in ("short slices", "usual")]


def test_who_may_not_have_real_time_is_told_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(UserError, match="--realtime=true: this user may not: expected a user whose `ulimit"):
        hurry(realtime=True)


def test_real_time_is_of_the_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []

    def set_scheduler(pid: int, policy: int, parameter: os.sched_param) -> None:
        asked.append((pid, policy, parameter.sched_priority))

    monkeypatch.setattr(os, "sched_setscheduler", set_scheduler)
    assert hurry(realtime=True) == "realtime"
    assert asked == [(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, 1)]


def test_another_system_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert hurry() == "usual"
    with pytest.raises(UserError, match="--realtime=true: expected Linux"):
        hurry(realtime=True)
