"""`embodied bench evaluate`: evaluation episodes per minute, ours against the loop of `lerobot-eval`.

Both run one checkpoint, a freshly initialised `tiny` policy, in our environment, on the same seeds, in turn
in one process. LeRobot's environments are made, its policy is loaded and its episodes run by the functions
that its command calls, once with as many environments as the command would choose and once with as many as we
do; the better median counts. Not counted are imports, loading, the start of its processes (that of ours is)
and the films that its command makes of the first ten episodes.

The statistics that the checkpoint is saved with are made up: they carry the hand forwards, through some of
the places where a goal may be, so that some episodes succeed and both loops can be seen to agree on which.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lerobot.configs.default import EvalConfig
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs import close_envs, make_env, make_env_pre_post_processors
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.scripts.lerobot_eval import eval_policy
from lerobot.utils.constants import ACTION, OBS_STATE

from embodied.benchmarks.infer import ACTION_SIZE, STATE_SIZE, bench_device, time_in_turn, untrained
from embodied.config import BenchConfig
from embodied.evaluation.evaluate import evaluate_policy
from embodied.evaluation.policy_loading import load_policy
from embodied.evaluation.summary import Row
from embodied.lerobot_plugin import EmbodiedMetaworldEnv, SimulatedEnvConfig
from embodied.rollout import default_num_envs

TASK = "reach"
EPISODE_LENGTH = 200
FIRST_SEED = 1000
DRIFT = (0.0, 0.5, 0.0, 0.0)
"""Mean of the made-up actions: forwards. Their deviation is small, so that this is about what is done."""

DEVIATION = 0.1
UNIT = "evaluation episodes per minute"
OURS = "ours"

Outcome = tuple[int, bool, float]
"""An episode's seed, whether it succeeded, and its return."""


def bench_evaluate(config: BenchConfig) -> dict[str, Any]:
    """Time `config.repeats` x `config.steps` episodes of both, and print what came out.

    Returns `ours` and `peer` (medians), `ratio` (ours over peer), `unit`, `same_successes` (whether every
    episode succeeded on both sides or on none, in every turn), `successes`, `episodes`,
    `largest_return_difference`, `our_envs`, `peer_envs` (the better of what was tried), `pairs` (every
    measurement) and what was measured on.
    """
    device = bench_device()
    env_config = EmbodiedMetaworldEnv(
        task=TASK, width=config.image_size, height=config.image_size, episode_length=EPISODE_LENGTH
    )
    outcomes: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        checkpoint = save_untrained(Path(folder, "checkpoint"), config.image_size)
        runners = {OURS: our_runner(checkpoint, env_config, config.steps, device)}
        for count in peer_env_counts(config.steps):
            runner = peer_runner(checkpoint, env_config, config.steps, device, count)
            runners[_peer_name(count)] = stack.enter_context(runner)
        noted = {
            name: partial(_note, outcomes.setdefault(name, []), runner) for name, runner in runners.items()
        }
        seconds = time_in_turn(noted, config.repeats, device, "bench evaluate", warm_up=0, unit="turn")
    rates = {name: [60 * config.steps / each for each in taken] for name, taken in seconds.items()}
    medians = {name: median(each) for name, each in rates.items()}
    peer_envs = max(peer_env_counts(config.steps), key=lambda count: medians[_peer_name(count)])
    ours, peer = medians[OURS], medians[_peer_name(peer_envs)]
    agreement = compare_outcomes(outcomes.pop(OURS), outcomes.values())
    print(f"ours {ours:.1f}, LeRobot's {peer:.1f} {UNIT}: {ours / peer:.1f} times")
    print("the same episodes succeed" if agreement["same_successes"] else "OTHER EPISODES SUCCEED")
    return {
        "benchmark": "evaluate",
        "unit": UNIT,
        "ours": ours,
        "peer": peer,
        "ratio": ours / peer,
        **agreement,
        "our_envs": default_num_envs(config.steps),
        "peer_envs": peer_envs,
        "pairs": [{name: each[turn] for name, each in rates.items()} for turn in range(config.repeats)],
        "task": TASK,
        "episode_length": EPISODE_LENGTH,
        "first_seed": FIRST_SEED,
        "picture": [config.image_size, config.image_size],
        "cameras": len(env_config.camera_names),
        "device": device,
    }


def compare_outcomes(ours: Sequence[Outcome], peers: Iterable[Sequence[Outcome]]) -> dict[str, Any]:
    """Whether every peer saw the same episodes succeed as we did, and how far its returns are from ours."""
    peers = list(peers)
    expected = [outcome[:2] for outcome in ours]
    differences = [abs(one[2] - other[2]) for peer in peers for one, other in zip(ours, peer, strict=True)]
    return {
        "same_successes": all([outcome[:2] for outcome in peer] == expected for peer in peers),
        "successes": sum(success for _, success, _ in ours),
        "episodes": len(ours),
        "largest_return_difference": max(differences),
    }


def _note(outcomes: list[Outcome], runner: Callable[[], list[Outcome]]) -> None:
    outcomes += runner()


def _peer_name(count: int) -> str:
    return f"peer_{count}_envs"


def peer_env_counts(episodes: int) -> list[int]:
    """How many environments `lerobot-eval` would take on this machine, and how many we do."""
    return list(dict.fromkeys([EvalConfig(n_episodes=episodes).batch_size, default_num_envs(episodes)]))


def save_untrained(folder: Path, size: int) -> Path:
    """Write a freshly initialised policy and its processors, as LeRobot's trainer would."""
    torch.manual_seed(0)
    policy = untrained(size, "cpu", preset="tiny")
    statistics = {
        OBS_STATE: {"mean": torch.zeros(STATE_SIZE), "std": torch.ones(STATE_SIZE)},
        ACTION: {"mean": torch.tensor(DRIFT), "std": torch.full((ACTION_SIZE,), DEVIATION)},
    }
    for part in (policy, *make_pre_post_processors(policy.config, dataset_stats=statistics)):
        part.save_pretrained(folder)
    return folder


def our_runner(
    checkpoint: Path, env_config: SimulatedEnvConfig, episodes: int, device: str
) -> Callable[[], list[Outcome]]:
    """Run our evaluation; what starts but once in a process has started when this returns."""
    policy, preprocessor, postprocessor = load_policy(checkpoint, device)
    run = partial(evaluate_policy, policy, preprocessor, postprocessor, seed=FIRST_SEED)
    single_step = type(env_config)(
        task=env_config.task, width=env_config.width, height=env_config.height, episode_length=1
    )
    run(single_step, episodes=2, num_envs=2)
    return lambda: our_outcomes(run(env_config, episodes=episodes))


def our_outcomes(rows: Sequence[Row]) -> list[Outcome]:
    """Outcomes of episode rows."""
    return [(row["env_seed"], row["success"], row["return"]) for row in rows]


@contextmanager
def peer_runner(
    checkpoint: Path, env_config: SimulatedEnvConfig, episodes: int, device: str, count: int
) -> Iterator[Callable[[], list[Outcome]]]:
    """Run LeRobot's evaluation in so many environments, which have started; as its command does."""
    policy_config = PreTrainedConfig.from_pretrained(checkpoint, cli_overrides=[f"--device={device}"])
    policy_config.pretrained_path = checkpoint
    policy = make_policy(policy_config, env_cfg=env_config).eval()
    overrides = {"device_processor": {"device": device}}
    preprocessor, postprocessor = make_pre_post_processors(
        policy_config, pretrained_path=str(checkpoint), preprocessor_overrides=overrides
    )
    env_preprocessor, env_postprocessor = make_env_pre_post_processors(env_config, policy_config)
    envs: Any = make_env(env_config, n_envs=count, use_async_envs=True)
    (env,) = envs[TASK].values()

    def run() -> list[Outcome]:
        with torch.no_grad():
            result = eval_policy(
                env,
                policy,
                env_preprocessor,
                env_postprocessor,
                preprocessor,
                postprocessor,
                n_episodes=episodes,
                start_seed=FIRST_SEED,
            )
        return peer_outcomes(result)

    try:
        env.reset(seed=FIRST_SEED)
        yield run
    finally:
        close_envs(envs)


def peer_outcomes(result: dict[str, Any]) -> list[Outcome]:
    """Outcomes of what LeRobot's `eval_policy` returns."""
    return [
        (episode["seed"], bool(episode["success"]), episode["sum_reward"])
        for episode in result["per_episode"]
    ]
