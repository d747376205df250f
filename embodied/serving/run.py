"""`embodied run`: a LeRobot robot driven by a policy, here or on a server, through the safety filter.

The policy is asked whether it fits before the robot's motors are enabled; at the end, and whatever goes
wrong, the robot is braked before it is let go.
"""

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

from lerobot.robots import Robot, make_robot_from_config

from embodied.errors import UserError
from embodied.robots.devices import SimRobot
from embodied.serving.access import read_token
from embodied.serving.asking import Asker, Connected, Connection, Impossible
from embodied.serving.client import PolicyClient
from embodied.serving.control import Controller, Patience, State
from embodied.serving.local import LocalPolicy
from embodied.serving.loop import Asking, ControlLoop, Frame
from embodied.serving.priority import hurry
from embodied.serving.profiles import RobotProfile, find_profile
from embodied.serving.queue import MERGES, ActionQueue
from embodied.serving.recording import EpisodeRecorder
from embodied.serving.run_config import SYNC, RunConfig
from embodied.serving.runners import find_target
from embodied.serving.safety import SafetyFilter
from embodied.serving.self_collision import MujocoCollisions
from embodied.serving.specification import Signals, Specification, robot_unit
from embodied.serving.tick_log import TickLog
from embodied.training.interruption import StopRequest

BRAKING_SECONDS = 2.0
WRITING_SECONDS = 600.0


def run(config: RunConfig) -> dict[str, Any]:
    """Drive the robot for some episodes; returns what happened in each. UserError before any motion."""
    return drive(config, partial(_connector, config))


def drive(
    config: RunConfig, connector: Callable[[Specification], Callable[[], Connection]]
) -> dict[str, Any]:
    """The same; connector: from what the robot offers to what makes a connection to the policy."""
    profile = find_profile(config.robot.type, config.safety.profile)
    profile = dataclasses.replace(profile, fps=config.fps or profile.fps)
    _check_degrees(config, profile)
    robot = _make_robot(config)
    offers = robot_specification(robot, profile)
    safety = SafetyFilter(profile, off=config.safety.turned_off, collisions=_collisions(config, profile))
    for limit in sorted(safety.off):
        print(f"--safety.off={limit}: this limit is NOT kept")
    asker = Asker(connector(offers), deadline=config.deadline)
    asker.start()
    try:
        policy = _agreed(asker, config)
        with ExitStack() as stack:
            log = None if config.tick_log is None else stack.enter_context(TickLog(config.tick_log))
            loop = _make_loop(config, robot, offers, policy, safety, asker, log)
            recorder = _recorder(config, robot, offers)
            if recorder is not None:
                stack.enter_context(closing(recorder))
            stack.enter_context(_connected(robot))
            stop = stack.enter_context(StopRequest())
            scheduling = hurry(realtime=config.realtime)
            episodes = _drive(config, robot, loop, recorder, lambda: stop.requested)
    except ConnectionError as error:
        raise UserError(f"--robot.type={robot.name}: the robot cannot be reached: {error}") from error
    finally:
        asker.close()
    counts = dataclasses.asdict(loop.counts)
    off = sorted(safety.off)
    ticks = {"behind": loop.behind.summary(), "duration": loop.duration.summary()}
    limits = {"profile": profile.name, "off": off}
    return {
        "ok": True,
        "safety": limits,
        **counts,
        "scheduling": scheduling,
        "tick_times": ticks,
        "episodes": episodes,
    }


def robot_specification(robot: Robot, profile: RobotProfile) -> Specification:
    """What a robot offers, its units and limits from the profile. UserError if the profile is not its."""
    actions = tuple(robot.action_features)
    profile.check_names(actions, f"--robot.type={robot.name}")
    states = tuple(name for name, kind in robot.observation_features.items() if kind is float)
    cameras = {name: size for name, size in robot.observation_features.items() if isinstance(size, tuple)}
    places = {name: place for place, name in enumerate(actions)}
    for name in actions:
        if profile.rest is None and name not in states:
            raise UserError(f"--robot.type={robot.name}: no position of {name}: expected it, to be safe")
    return Specification(
        robot_type=robot.name,
        cameras=cameras,
        state=Signals(
            names=states,
            units=tuple(_unit(robot, profile, name, places) for name in states),
            low=tuple(profile.low[places[name]] if name in places else -float("inf") for name in states),
            high=tuple(profile.high[places[name]] if name in places else float("inf") for name in states),
        ),
        action=Signals(names=actions, units=profile.units, low=profile.low, high=profile.high),
        fps=float(profile.fps),
    )


def _unit(robot: Robot, profile: RobotProfile, name: str, places: dict[str, int]) -> str:
    return profile.units[places[name]] if name in places else robot_unit(robot.name, name)


def _make_robot(config: RunConfig) -> Robot:
    try:
        return make_robot_from_config(config.robot)
    except ImportError as error:  # LeRobot leaves the drivers of motors and cameras to its extras
        raise UserError(f"--robot.type: LeRobot lacks the driver of this robot: {error}") from error


def _check_degrees(config: RunConfig, profile: RobotProfile) -> None:
    """LeRobot's arms give other numbers than degrees on request, and do not say so."""
    settings = {item.name: getattr(config.robot, item.name) for item in dataclasses.fields(config.robot)}
    if "deg" in profile.units and not settings.get("use_degrees", True):
        raise UserError(f"--robot.use_degrees=false: expected true, as profile {profile.name} is in degrees")


def _collisions(config: RunConfig, profile: RobotProfile) -> MujocoCollisions | None:
    if profile.self_collision is None or "self_collision" in config.safety.turned_off:
        return None
    return MujocoCollisions(profile)


def _connector(config: RunConfig, offers: Specification) -> Callable[[], Connection]:
    """What makes a connection to the policy."""
    if config.policy.path is not None:
        target = find_target(
            config.policy.path, null=False, device=config.device, overrides=config.policy_overrides
        )
        return partial(LocalPolicy, target, robot=offers, mode=config.mode, candidates=config.candidates)
    server = config.server
    assert server.url is not None
    token = None if server.token_file is None else read_token(server.token_file)
    return partial(
        PolicyClient,
        server.url,
        robot=offers,
        mode=config.mode,
        candidates=config.candidates,
        token=token,
        ca=server.ca,
    )


def _agreed(asker: Asker, config: RunConfig) -> Specification:
    """The specification of a policy that fits; UserError if there is none."""
    where = config.server.url or config.policy.path
    match asker.wait(config.patience):
        case Connected(offer=offer):
            return offer.specification
        case Impossible(reason=reason):
            raise UserError(f"{where}: {reason}")
        case _:
            raise UserError(f"{where}: no policy within {config.patience:g} s: {asker.trouble}")


def _make_loop(
    config: RunConfig,
    robot: Robot,
    offers: Specification,
    policy: Specification,
    safety: SafetyFilter,
    asker: Asker,
    log: TickLog | None,
) -> ControlLoop:
    patience = Patience.suiting(policy, offers.fps, overdue=config.overdue, stale=config.stale)
    is_sync = config.chunking == SYNC
    queue = ActionQueue(MERGES["rtc" if is_sync else config.chunking])
    if log is not None:
        log.start(time.monotonic(), offers.fps, patience)
    return ControlLoop(
        robot,
        offers,
        controller=Controller(queue, patience),
        safety=safety,
        asker=asker,
        asking=Asking(task=config.task, sync=is_sync, continues=config.chunking == "rtc"),
        clock=time.monotonic,
        sleep=time.sleep,
        log=None if log is None else log.add,
    )


def _recorder(config: RunConfig, robot: Robot, offers: Specification) -> EpisodeRecorder | None:
    if config.record is None:
        return None
    return EpisodeRecorder(
        config.record, offers, task=config.task, knows_success=_is_solved(robot) is not None
    )


def _is_solved(robot: Robot) -> bool | None:
    """Whether the task was solved at the robot's last observation; None if it cannot tell, as no real one."""
    return robot.is_solved if isinstance(robot, SimRobot) else None


@contextmanager
def _connected(robot: Robot) -> Iterator[None]:
    robot.connect()
    gc.collect()
    gc.freeze()  # a full collection of all that was imported takes longer than a tick
    try:
        yield
    finally:
        gc.unfreeze()
        if robot.is_connected:
            robot.disconnect()


def _drive(
    config: RunConfig,
    robot: Robot,
    loop: ControlLoop,
    recorder: EpisodeRecorder | None,
    stopped: Callable[[], bool],
) -> list[dict[str, Any]]:
    """All episodes; the robot stands when this returns or fails."""
    episodes: list[dict[str, Any]] = []
    try:
        for index in range(config.episodes):
            if stopped():
                break
            if isinstance(robot, SimRobot):
                robot.reset_scene(config.seed + index)
            if isinstance(robot, SimRobot) or not index:
                loop.start()
            loop.begin_episode()
            episodes.append(_episode(config, robot, loop, recorder, stopped))
            print(f"episode {index}: {_described(episodes[-1])}", flush=True)
    finally:
        if loop.is_started:
            loop.controller.stop(time.monotonic(), "the end")
            loop.run(BRAKING_SECONDS, until=lambda: loop.stands)
    return episodes


def _described(episode: dict[str, Any]) -> str:
    """In a line; that frames are written is not said before it is true."""
    written = f", {episode['frames']} frames written" if "frames" in episode else ""
    success = {None: "", True: ", solved", False: ", not solved"}[episode["success"]]
    return f"{episode['outcome']}{success}, {episode['holds']} holds{written}"


def _episode(
    config: RunConfig,
    robot: Robot,
    loop: ControlLoop,
    recorder: EpisodeRecorder | None,
    stopped: Callable[[], bool],
) -> dict[str, Any]:
    """One episode; an interrupted one has held in between. Its success is None if the robot cannot tell."""
    before = len(loop.controller.history)
    begun = time.monotonic()
    told: set[bool | None] = set()  # a list of them would grow for as long as the robot runs

    def keep(frame: Frame) -> None:
        solved = _is_solved(robot)
        told.add(solved)
        if recorder is not None:
            recorder.add(frame, solved=bool(solved))

    loop.record = keep
    loop.run(config.seconds, until=stopped)
    loop.record = None
    events = loop.controller.history[before:]
    holds = [event for event in events if event.state is State.HOLD]
    is_interrupted = bool(holds) and config.chunking != SYNC
    frames = {}
    if recorder is not None:
        frames["frames"] = recorder.num_frames
        written = recorder.end_episode(interrupted=is_interrupted)
        loop.rest(WRITING_SECONDS, until=written.done)
        written.result()
    return {
        "outcome": "interrupted" if is_interrupted else "undisturbed",
        "success": None if None in told else any(told),
        "seconds": time.monotonic() - begun,
        "holds": len(holds),
        "events": [
            {"seconds": event.time - begun, "state": event.state.value, "reason": event.reason}
            for event in events
        ],
        **frames,
    }
