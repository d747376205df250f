"""`embodied evaluate --policy.path=... --dataset.root=...`: whether a policy looks, without a simulator.

Most of a demonstration follows from the robot's state and the instruction; what a regression on both leaves
open (`embodied.data.emphasis`) only pictures can tell, or a memory of them. Along demonstrations that the
policy has not been trained on, it is asked where its actions lead, and scored by the share of the open rest
that it foresees: 1 - its squared error over the regression's, 1 at best, 0 for what does as well blindly.
Beside it stands the same policy shown the pictures of another episode, which costs it what it does see.

E episodes, L looks, B episodes decided for at once, A action size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lerobot.utils.constants import ACTION, OBS_PREFIX
from lerobot.utils.feature_utils import dataset_to_policy_features
from tqdm import tqdm

from embodied.config import CheckpointConfig, DatasetConfig
from embodied.data.cache import FrameCache
from embodied.data.emphasis import left_open
from embodied.data.windows import Batch, gather_windows, scale_images
from embodied.errors import UserError
from embodied.evaluation.agents import CHUNKED, ChunkAgent, make_agent
from embodied.evaluation.evaluate import checkpoint_origin
from embodied.evaluation.held_out import open_held_out
from embodied.evaluation.policy_loading import LoadedPolicy, check_offered, features_wanted, load_policy
from embodied.evaluation.summary import align
from embodied.rollout import Episode
from policies.latent_vla.relative_actions import dimension_names

AT_ONCE = 32
PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Of the regression, the best of which is taken: on a few episodes a weak one is worse than the mean."""

REPLICATES = 2000
LEAST_OPEN = 1e-3
"""Share of an action's variance that has to be open: where less is, there is nothing to see, nor to score."""

SHOWN = 20
"""Instructions with most looks that the printed table has room for."""


@dataclass(frozen=True, kw_only=True)
class LookConfig:
    """`embodied evaluate --dataset.root=DEMONSTRATIONS`: whether a policy looks, told without a simulator.

    dataset: demonstrations that the policy was not trained on; episodes: how many of them are drawn at most.
    policy_overrides is filled by the command line.
    """

    policy: CheckpointConfig
    dataset: DatasetConfig
    policy_overrides: list[str] = field(default_factory=list)
    episodes: int = 200
    seed: int = 0
    device: str | None = None
    json: Path | None = None

    def __post_init__(self) -> None:
        if self.episodes < 2:
            raise UserError(f"--episodes={self.episodes}: expected at least 2")
        if self.policy.path is None:
            raise UserError("--dataset.root: expected --policy.path as well, not a policy that plans")


class Forecaster(Protocol):
    """Says where its actions lead."""

    stride: int
    """Environment steps from one look to the next, at whose end the actions are judged."""

    def reset(self) -> None:
        """Forget the episodes before."""
        ...

    def __call__(self, batch: Batch, look: int) -> np.ndarray:
        """The last action (B, A) before the next look, in the data set's units."""
        ...


class PolicyForecaster:
    """A policy that decides by whole chunks: implements `Forecaster`."""

    def __init__(self, loaded: LoadedPolicy, seed: int = 0) -> None:
        """UserError for a policy that does not decide by whole chunks."""
        self._policy, self._seed = loaded[0], seed
        agent = make_agent(*loaded)
        if not isinstance(agent, ChunkAgent):
            raise UserError(
                f"--policy.path: holds a policy of type {self._policy.config.type}: expected one that "
                f"decides by whole chunks, {', '.join(CHUNKED)}"
            )
        self._agent, self.stride = agent, agent.chunk_steps

    def reset(self) -> None:
        """See `Forecaster`."""
        self._policy.reset()

    def __call__(self, batch: Batch, look: int) -> np.ndarray:
        """See `Forecaster`."""
        rows = range(len(batch["task"]))
        episodes = [Episode(task=batch["task"][row], seed=self._seed + row) for row in rows]
        return self._agent.act_on(scale_images(batch), episodes, [look for _ in rows])[:, -1]


def look(config: LookConfig) -> dict[str, Any]:
    """Print and return how much of what state and instruction leave open a policy foresees.

    Returns what `foresight` gives, `held_out`, and what `checkpoint_origin` gives. Raises UserError for a
    checkpoint or a data set that cannot be used, or of which the policy has seen some.
    """
    loaded = load_policy(config.policy.folder, config.device, config.policy_overrides)
    forecaster = PolicyForecaster(loaded, config.seed)
    cache = open_held_out(config.dataset, config.policy.folder)
    wanted = features_wanted(loaded[0].config, loaded[1])
    check_offered(wanted, dataset_to_policy_features(cache.features), str(cache.root))
    episodes = cache.episodes
    if len(episodes) > config.episodes:
        episodes = np.random.default_rng(config.seed).choice(episodes, size=config.episodes, replace=False)
    found = foresight(forecaster, cache, np.sort(episodes))
    print(align(_lines(found)))
    return {
        **found,
        "held_out": {"root": str(cache.root), "fingerprint": cache.fingerprint},
        **checkpoint_origin(config.policy.folder, config.seed),
    }


def foresight(forecaster: Forecaster, cache: FrameCache, episodes: np.ndarray) -> dict[str, Any]:
    """How much of what state and instruction leave open is foreseen, at looks along these episodes (E,).

    Returns `share` with `interval` (95 %, bootstrap over episodes), the same as `other_pictures` for pictures
    of another episode, the share by name as `dimensions` (of the action, where something is open) and
    `instructions`, `ahead` (environment steps from look to judged action), and how many `looks` and
    `episodes`. UserError for less than two episodes, or if nothing is open.
    """
    if len(episodes) < 2:
        raise UserError(f"{cache.root}: {len(episodes)} episode, expected at least 2, to swap their pictures")
    ahead = forecaster.stride - 1
    rest, deviation = left_open(cache, cache.frames, ahead, PENALTIES)
    row_of = np.full(cache.num_frames, -1)
    row_of[cache.frames] = np.arange(len(cache.frames))
    errors: dict[bool, np.ndarray] = {}
    frames = np.empty(0, np.int64)
    for is_swapped in (False, True):
        frames, actions = _decide(forecaster, cache, episodes, is_swapped=is_swapped)
        taken = cache.columns[ACTION][np.minimum(frames + ahead, cache.last[frames])]
        errors[is_swapped] = np.square((actions - taken) / deviation)
    opened = np.square(rest[row_of[frames]])
    is_open = opened.mean(0) > LEAST_OPEN
    if not is_open.any():
        raise UserError(f"{cache.root}: its actions follow from state and instruction, expected others")
    scored, other = (
        Scored(
            errors=errors[is_swapped][:, is_open],
            opened=opened[:, is_open],
            episode=cache.columns["episode_index"][frames],
            instruction=cache.tasks[cache.columns["task_index"][frames]],
        )
        for is_swapped in (False, True)
    )
    names = np.array(dimension_names(cache.features[ACTION]) or range(len(is_open))).astype(str)
    return {
        **scored.whole(),
        "other_pictures": other.whole(),
        "dimensions": dict(zip(names[is_open].tolist(), scored.by_dimension(), strict=True)),
        "instructions": scored.by_instruction(),
        "ahead": ahead,
        "looks": len(frames),
        "episodes": len(episodes),
    }


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Squared errors of a policy and of the regression, both (L, A), at looks.

    episode: (L,) its number; instruction: (L,) in words.
    """

    errors: np.ndarray
    opened: np.ndarray
    episode: np.ndarray
    instruction: np.ndarray

    def whole(self) -> dict[str, Any]:
        """The share foreseen and its interval."""
        _, place = np.unique(self.episode, return_inverse=True)
        sums = np.stack([np.bincount(place, part.sum(1)) for part in (self.errors, self.opened)])
        count = sums.shape[1]
        times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=REPLICATES)
        errors, opened = times @ sums.T[:, 0], times @ sums.T[:, 1]
        interval = np.percentile(1 - errors / opened, [2.5, 97.5])
        return {"share": _share(*sums.sum(1)), "interval": [round(float(end), 4) for end in interval]}

    def by_dimension(self) -> list[float]:
        """The share foreseen of each dimension."""
        return [_share(*pair) for pair in zip(self.errors.sum(0), self.opened.sum(0), strict=True)]

    def by_instruction(self) -> dict[str, float]:
        """The share foreseen under each instruction, those with most looks first."""
        told, counts = np.unique(self.instruction, return_counts=True)
        ordered = told[np.argsort(-counts, kind="stable")]
        rows = {str(text): self.instruction == text for text in ordered}
        return {text: _share(self.errors[mine].sum(), self.opened[mine].sum()) for text, mine in rows.items()}


def _share(error: float, opened: float) -> float:
    return round(float(1 - error / opened), 4)


def _decide(
    forecaster: Forecaster, cache: FrameCache, episodes: np.ndarray, *, is_swapped: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (L,) of all looks, and the actions (L, A) decided upon there, with own or others' pictures."""
    starts = np.unique(cache.first)
    frames: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    groups = np.array_split(episodes, -(-len(episodes) // AT_ONCE))
    description = "pictures swapped" if is_swapped else "looking"
    for group in tqdm(groups, desc=description, unit="group", leave=False):
        forecaster.reset()
        seen = np.roll(group, 1) if is_swapped else group
        for number, (now, pictured, is_running) in enumerate(
            _looks(cache, starts[group], starts[seen], forecaster.stride)
        ):
            batch = _observation(cache, now, pictured)
            decided = forecaster(batch, number)
            frames.append(now[is_running])
            actions.append(decided[is_running])
    return np.concatenate(frames), np.concatenate(actions)


def _looks(
    cache: FrameCache, starts: np.ndarray, others: np.ndarray, stride: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Look by look (B,): frames, frames whose pictures are shown, and which episodes are still running."""
    for offset in range(0, int((cache.last[starts] - starts).max()) + 1, stride):
        now, pictured = (np.minimum(first + offset, cache.last[first]) for first in (starts, others))
        yield now, pictured, starts + offset <= cache.last[starts]


def _observation(cache: FrameCache, frames: np.ndarray, pictured: np.ndarray) -> Batch:
    """What a policy sees of frames, with the pictures of others."""
    own, shown = gather_windows(cache, frames, {}), gather_windows(cache, pictured, {})
    observed = {key: own[key] for key in cache.features if key.startswith(OBS_PREFIX)}
    return observed | {key: shown[key] for key in cache.images} | {"task": own["task"]}


def _lines(found: Mapping[str, Any]) -> list[list[str]]:
    """The table that is printed."""
    lines = [[f"foreseen, {found['ahead']} steps ahead", "share of what is open", "95 % interval"]]
    for name, row in (("all", found), ("with another episode's pictures", found["other_pictures"])):
        low, high = row["interval"]
        lines.append([name, f"{row['share']:.2f}", f"{low:.2f} to {high:.2f}"])
    told = found["instructions"] if len(found["instructions"]) > 1 else {}
    for name, share in [*found["dimensions"].items(), *list(told.items())[:SHOWN]]:
        lines.append([name, f"{share:.2f}", ""])
    return lines
