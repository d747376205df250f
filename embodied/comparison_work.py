"""What a comparison is made of, as units of work in a fixed order, each of which knows whether it is done.

A unit is a data set, the training of a checkpoint with one seed, or a cell: the episodes of one arm with one
training seed in one condition. All of them go on where they were stopped.
"""

import copy
import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from embodied.config import CollectConfig, CompareConfig, TrainConfig
from embodied.data.collect import complete_collection, is_complete
from embodied.data.dataset import open_metadata
from embodied.data.merge import is_merged, merge_datasets
from embodied.evaluation.agents import make_agent
from embodied.evaluation.calibration import prepare_intervention
from embodied.evaluation.comparison import summarise_comparison
from embodied.evaluation.declaration import (
    NOT_ARMS,
    Arm,
    Declaration,
    Merged,
    Recorded,
    training_folder,
)
from embodied.evaluation.evaluate import list_episodes, run_agent, run_floor
from embodied.evaluation.floors import EXPERT, run_expert
from embodied.evaluation.policy_loading import check_fits, load_policy
from embodied.evaluation.row_log import RowLog
from embodied.evaluation.summary import Row
from embodied.lerobot_plugin import SimulatedEnvConfig
from embodied.manifest import read_json, write_json
from embodied.rollout import Episode, EpisodeResult
from embodied.training.checkpoint import last_checkpoint
from embodied.training.loop import train
from embodied.training.pace import Pace
from embodied.training.run import SETTINGS

Key = tuple[str, str, int | None, str, int]
"""Condition, arm, training seed, task, environment seed."""

ALONE = 2
"""So many episodes per cell are run one by one: their decision times are those of a single robot."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A piece of work that is done as a whole, or goes on where it was stopped."""

    stage: str
    label: str
    is_done: Callable[[], bool]
    run: Callable[[], None]
    needs: tuple["Unit", ...] = ()


COSTS = ("parameters", "steps", "samples", "seconds", "resumed_from")
"""Of what `train` returns; seconds are those since it was last resumed."""


class Work:
    """The units of a declaration, and the rows that they leave."""

    def __init__(self, config: CompareConfig, declaration: Declaration, log: RowLog) -> None:
        self._config, self._declaration, self._log = config, declaration, log
        self._rows: dict[Key, Row] = {_key(row): row for row in log.rows if "declaration" not in row}

    def units(self) -> list[Unit]:
        """All units, in the order in which they are run: a unit comes after what it needs."""
        declaration = self._declaration
        data = {name: self._data_unit(name) for name in declaration.data}
        units = [unit for name, unit in data.items() if not isinstance(declaration.data[name], Merged)]
        for name, source in declaration.data.items():
            if isinstance(source, Merged):
                parts = tuple(data[part] for part in source.parts)
                data[name] = dataclasses.replace(data[name], needs=parts)
                units.append(data[name])
        units += [self._cell(condition, who) for condition in declaration.conditions for who in NOT_ARMS]
        for seed in declaration.training_seeds:
            trained: dict[str, Unit] = {}
            for name in sorted(declaration.training, key=lambda name: name in declaration.starts_from):
                before = [trained[declaration.starts_from[name]]] if name in declaration.starts_from else []
                needs = (data[declaration.data_of[name]], *before)
                trained[name] = self._training_unit(name, seed, needs)
            units += trained.values()
            units += [
                self._cell(condition, arm.name, seed, needs=(trained[arm.checkpoint],))
                for condition in declaration.conditions
                for arm in declaration.arms.values()
            ]
        return units

    def summary(self) -> dict[str, Any]:
        """Statistics of the cells that are complete, and what was declared."""
        declaration = self._declaration
        cells = [cell for condition in declaration.conditions for cell in self._paired_cells(condition)]
        rows = [self._rows[key] for cell in cells for key in self._keys(*cell)]
        return {
            "name": declaration.name,
            **summarise_comparison(rows, declaration.comparisons),
            "training_seeds": list(declaration.training_seeds),
            "trainings": self._trainings(),
            "declaration": declaration.declared,
        }

    def _trainings(self) -> list[dict[str, Any]]:
        """What each training that is at hand took, see `COSTS`."""
        found = []
        for name in self._declaration.training:
            for seed in self._declaration.training_seeds:
                note = _note(training_folder(self._config.output_dir, name, seed))
                if note.is_file():
                    result = read_json(note)
                    found.append(
                        {"checkpoint": name, "training_seed": seed, **{key: result[key] for key in COSTS}}
                    )
        return found

    def _paired_cells(self, condition: str) -> list[tuple[str, str, int | None]]:
        """The complete cells of a condition: of the arms that were begun, those of seeds they all have."""
        seeds = {
            arm: [s for s in self._declaration.training_seeds if self._is_complete(condition, arm, s)]
            for arm in self._declaration.arms
        }
        begun = [arm for arm, own in seeds.items() if own]
        common = [s for s in self._declaration.training_seeds if all(s in seeds[arm] for arm in begun)]
        floors = [who for who in NOT_ARMS if self._is_complete(condition, who, None)]
        return [
            *((condition, who, None) for who in floors),
            *((condition, arm, seed) for arm in begun for seed in common),
        ]

    # --- data and training ------------------------------------------------------------------------

    def _data_unit(self, name: str) -> Unit:
        source = self._declaration.data[name]
        done: Callable[[], bool]
        run: Callable[[], None]
        if isinstance(source, CollectConfig):
            done, run = partial(is_complete, source), partial(self._collect, source)
        elif isinstance(source, Merged):
            done, run = partial(is_merged, source.root), partial(self._merge, source)
        else:
            done, run = partial(is_merged, source.root), partial(_require_data, source)
        return Unit(stage="data", label=f"data {name}", is_done=done, run=run)

    def _collect(self, config: CollectConfig) -> None:
        root = config.dataset.root
        root.parent.mkdir(parents=True, exist_ok=True)
        write_json(root.with_name(f"{root.name}.json"), complete_collection(config))

    def _merge(self, source: Merged) -> None:
        merge_datasets({part: self._root(part) for part in source.parts}, source.root)

    def _root(self, data: str) -> Path:
        source = self._declaration.data[data]
        return source.dataset.root if isinstance(source, CollectConfig) else source.root

    def _training_unit(self, checkpoint: str, seed: int, needs: tuple[Unit, ...]) -> Unit:
        folder = training_folder(self._config.output_dir, checkpoint, seed)
        config = dataclasses.replace(self._declaration.training[checkpoint], output_dir=folder, seed=seed)
        minutes = self._declaration.minutes.get(checkpoint)
        note = folder.with_name(f"{checkpoint}.steps.json")  # of all seeds
        pace = None if minutes is None else Pace(minutes=minutes, note=note)
        start = self._declaration.starts_from.get(checkpoint)
        if start is not None:
            policy: Any = copy.copy(config.policy)
            policy.world_model_path = training_folder(self._config.output_dir, start, seed)
            config = dataclasses.replace(config, policy=policy)
        return Unit(
            stage="train",
            label=f"training {checkpoint}, seed {seed}",
            is_done=partial(_is_trained, config, pace),
            run=partial(_train, config, pace),
            needs=needs,
        )

    # --- episodes ---------------------------------------------------------------------------------

    def _cell(self, condition: str, who: str, seed: int | None = None, needs: tuple[Unit, ...] = ()) -> Unit:
        of = "" if seed is None else f", training seed {seed}"
        return Unit(
            stage="evaluate",
            label=f"episodes {condition}, {who}{of}",
            is_done=partial(self._is_complete, condition, who, seed),
            run=partial(self._evaluate, condition, who, seed),
            needs=needs,
        )

    def _keys(self, condition: str, who: str, seed: int | None) -> dict[Key, Episode]:
        declaration = self._declaration
        env = declaration.conditions[condition]
        episodes = list_episodes(env, declaration.episodes, declaration.first_environment_seed)
        return {(condition, who, seed, episode.task, episode.seed): episode for episode in episodes}

    def _is_complete(self, condition: str, who: str, seed: int | None) -> bool:
        return all(key in self._rows for key in self._keys(condition, who, seed))

    def _evaluate(self, condition: str, who: str, seed: int | None) -> None:
        """Run the episodes that have no row yet."""
        keys = self._keys(condition, who, seed)
        missing = {key: episode for key, episode in keys.items() if key not in self._rows}

        def note(result: EpisodeResult, *, alone: bool = False) -> None:
            self._note(
                {
                    "condition": condition,
                    "arm": who,
                    "training_seed": seed,
                    "task": result.episode.task,
                    "env_seed": result.episode.seed,
                    "success": result.success,
                    "steps": result.steps,
                    "alone": alone,
                    "decision_ms": [round(seconds * 1000, 1) for seconds in result.decision_seconds],
                }
            )

        env, num_envs = self._declaration.conditions[condition], self._config.num_envs
        if who == EXPERT:
            _run_experts(env, missing.values(), note)
        elif seed is None:
            run_floor(who, env, list(missing.values()), num_envs=num_envs, finished=note)
        else:
            agent = self._agent(condition, self._declaration.arms[who], seed)
            alone = [] if agent.sociable else [missing[key] for key in list(keys)[:ALONE] if key in missing]
            # Who depends on the rest of a batch meets the batches of the whole cell, whatever is missing.
            run = list((keys if agent.sociable else missing).values())
            together = [episode for episode in run if episode not in alone]
            if together:
                run_agent(agent, env, together, num_envs=num_envs, description=who, finished=note)
            if alone:
                run_agent(agent, env, alone, num_envs=1, finished=partial(note, alone=True))

    def _note(self, row: Row) -> None:
        """Keep a row, but for one that is on record already."""
        if _key(row) not in self._rows:
            self._log.append(row)
            self._rows[_key(row)] = row

    def _agent(self, condition: str, arm: Arm, seed: int) -> Any:
        folder = training_folder(self._config.output_dir, arm.checkpoint, seed)
        loaded = load_policy(folder, self._config.device, list(arm.overrides))
        policy, preprocessor, _ = loaded
        check_fits(policy.config, self._declaration.conditions[condition], preprocessor)
        prepare_intervention(policy, preprocessor, self._declaration.training[arm.checkpoint].dataset)
        return make_agent(*loaded)


def _key(row: Row) -> Key:
    return row["condition"], row["arm"], row["training_seed"], row["task"], row["env_seed"]


def _run_experts(
    env: SimulatedEnvConfig, episodes: Iterable[Episode], note: Callable[[EpisodeResult], None]
) -> None:
    simulations = {task: env.env_fn(task)() for task in env.tasks}
    for episode in tqdm(episodes, desc=EXPERT, unit="episode"):
        note(run_expert(simulations[episode.task], env.expert_fn(episode.task)(), episode))
    for simulation in simulations.values():
        simulation.close()


def _require_data(source: Recorded) -> None:
    open_metadata(source.root)


def _is_trained(config: TrainConfig, pace: Pace | None) -> bool:
    last = last_checkpoint(config.output_dir)
    steps = config.steps if pace is None else pace.noted()
    return last is not None and steps is not None and int(last.name) >= steps


def _train(config: TrainConfig, pace: Pace | None) -> None:
    folder = config.output_dir
    if pace is not None:
        config = dataclasses.replace(config, steps=pace.measure(config))
    result = train(dataclasses.replace(config, resume=(folder / SETTINGS).is_file()))
    write_json(_note(folder), json.loads(json.dumps(result)))


def _note(folder: Path) -> Path:
    """Where what `train` returned for an output folder is kept."""
    return folder.with_name(f"{folder.name}.json")
