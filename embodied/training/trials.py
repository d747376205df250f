"""Trials of what training promises: it survives SIGKILL to the bit, and refuses a damaged checkpoint.

Both train the smallest of policies on two demonstrations of 32 px, in a folder of their own.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embodied.config import CollectConfig, DatasetConfig, TrainConfig
from embodied.data.collect import collect
from embodied.errors import UserError
from embodied.evaluation.policy_loading import load_policy
from embodied.flags import parse_flags
from embodied.forked import start_command
from embodied.lerobot_plugin import EmbodiedMetaworldEnv
from embodied.manifest import MANIFEST, TEMPORARY_PREFIX, read_json
from embodied.training.checkpoint import CHECKPOINTS, PROVENANCE, last_checkpoint, load_checkpoint_folder
from embodied.training.logs import METRICS_FILE
from embodied.training.loop import train
from embodied.training.run import SETTINGS

POLICY = {"device": "cpu", "chunk_size": 4, "n_action_steps": 4, "action_tokens": 2, "num_latents": 3}
POLICY |= {"dim": 32, "depth": 2, "heads": 2, "head_dim": 32, "head_depth": 2, "head_heads": 2}
STEPS, SAVE_FREQ = 45, 3
IMPORTED = [__name__, *(f"policies.latent_vla.{part}_latent_vla" for part in ("modeling", "processor"))]
WRITING_SECONDS = 0.06
"""About how long a checkpoint is written, flushed, linked, and the oldest one deleted."""

MEASURED = ("samples_per_s", "data_fraction")
"""What a log line tells about the machine, not about the training."""


def demonstrations(root: Path) -> Path:
    """Write the data set of both trials."""
    env = EmbodiedMetaworldEnv(task="reach", width=32, height=32)
    collect(CollectConfig(env=env, dataset=DatasetConfig(root=root), episodes=2, workers=1))
    return root


def flags(data: Path, run: Path, *, resume: bool = False) -> list[str]:
    """Command line of the training: rows and checkpoints of different rhythm, few of them kept."""
    settings = {"dataset.root": data, "output_dir": run, "steps": STEPS, "save_freq": SAVE_FREQ}
    settings |= {"batch_size": 4, "log_freq": 2, "keep_last": 2, "resume": str(resume).lower()}
    settings |= {"policy.type": "latent_vla"} | {f"policy.{name}": value for name, value in POLICY.items()}
    return [f"--{name}={value}" for name, value in settings.items()]


# --- kills ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A kill: whether the process had resumed, and the names it left in its folder of checkpoints."""

    resumed: bool
    left: list[str]

    @property
    def while_writing(self) -> bool:
        """Whether a checkpoint was unfinished, not yet linked, or half deleted."""
        return any(name.startswith(TEMPORARY_PREFIX) for name in self.left)


def train_until(run: Path, data: Path, moment: Callable[[Path], None] | None = None) -> Kill | None:
    """Run `embodied train` in a process of its own; SIGKILL it when `moment(run)` returns.

    It resumes if it had written its settings before, and begins with everything imported, so that a kill
    meets the training. Returns None if it came to its end. Raises RuntimeError if it failed by itself.
    """
    resumed, log = (run / SETTINGS).is_file(), run.with_suffix(".log")
    process = start_command(["train", *flags(data, run, resume=resumed)], log, IMPORTED)
    if moment is not None:
        moment(run)
        process.kill()
    process.join()
    code = process.exitcode
    if code not in (0, -9):
        raise RuntimeError(f"{run}: training ended with {code}: {log.read_text()[-2000:]}")
    left = sorted(path.name for path in (run / CHECKPOINTS).glob("*"))
    return Kill(resumed=resumed, left=left) if code else None


def random_moment(draw: random.Random, seconds: float) -> Callable[[Path], None]:
    """Half of the times any moment of `seconds`, else one of the work on a checkpoint still to come."""

    def wait(run: Path) -> None:
        last = last_checkpoint(run)
        ahead = range(int(last.name) if last else 0, STEPS, SAVE_FREQ)
        if not ahead or draw.random() < 0.5:
            time.sleep(draw.uniform(0, seconds))
            return
        unfinished = run / CHECKPOINTS / f"{TEMPORARY_PREFIX}{draw.choice(ahead) + SAVE_FREQ:06d}"
        deadline = time.monotonic() + 4 * seconds
        while not unfinished.exists() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(draw.uniform(0, WRITING_SECONDS))

    return wait


def train_through_kills(run: Path, data: Path, draw: random.Random, seconds: float) -> list[Kill]:
    """Train in `run`, killed once and then again half of the times, to the end."""
    kills: list[Kill] = []
    kill = train_until(run, data, random_moment(draw, seconds))
    while kill is not None:
        kills.append(kill)
        again = draw.random() < 0.5
        kill = train_until(run, data, random_moment(draw, seconds) if again else None)
    return kills


def outcome(run: Path) -> dict[str, Any]:
    """What must be equal to the bit: digests of the last checkpoint's files, logged values, what is kept.

    Of the checkpoint, the file with the command is left out.
    """
    last = (run / CHECKPOINTS / "last").resolve()
    rows = [json.loads(line) for line in (run / METRICS_FILE).read_text().splitlines()]
    files = read_json(last / MANIFEST)["files"]
    return {
        "files": {name: files[name]["sha256"] for name in files if name != PROVENANCE},
        "rows": [{key: row[key] for key in row if key not in MEASURED} for row in rows],
        "kept": sorted(path.name for path in (run / CHECKPOINTS).iterdir()),
    }


# --- damage ---------------------------------------------------------------------------------------


def flip_bit(path: Path, draw: random.Random) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, draw: random.Random) -> None:
    """Cut the file off anywhere, every fourth time at its beginning."""
    content = path.read_bytes()
    path.write_bytes(content[: draw.choice([0, *(draw.randrange(len(content)) for _ in range(3))])])


def delete(path: Path, draw: random.Random) -> None:
    """Delete the file."""
    path.unlink()


DAMAGE = {"flipped bit": flip_bit, "truncation": truncate, "deleted file": delete}
ADDED = "added file"


@contextmanager
def damaged(folder: Path, draw: random.Random) -> Iterator[tuple[str, Path]]:
    """One random damage to one random file of a checkpoint, undone afterwards: its kind and the file.

    Half are flipped bits, a quarter truncations, the rest deleted files and files that do not belong there.
    """
    kind = draw.choices([*DAMAGE, ADDED], weights=[4, 2, 1, 1])[0]
    path = draw.choice(sorted(file for file in folder.rglob("*") if file.is_file()))
    intact = path.read_bytes()
    if kind == ADDED:
        path = path.with_name(f"added-{path.name}")
        path.write_bytes(intact)
    else:
        DAMAGE[kind](path, draw)
    try:
        yield kind, path
    finally:
        if kind == ADDED:
            path.unlink()
        else:
            path.write_bytes(intact)


def loaders(run: Path, data: Path) -> dict[str, Callable[[], Any]]:
    """Every way in which a run's last checkpoint is read."""
    config = parse_flags(TrainConfig, flags(data, run, resume=True))
    return {
        "folder": lambda: load_checkpoint_folder(run),
        "evaluate": lambda: load_policy(run, "cpu"),
        "resume": lambda: train(config),
    }


def refused(load: Callable[[], Any], path: Path) -> bool:
    """Whether loading is refused in one line that names the file."""
    try:
        load()
    except UserError as error:
        return str(path) in str(error) and "\n" not in str(error)
    return False
