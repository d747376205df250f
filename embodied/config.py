"""Frozen run configurations: one dataclass per verb, filled by draccus from LeRobot-style flags."""

from dataclasses import dataclass, field
from pathlib import Path

import draccus
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.configs import EnvConfig

from embodied.errors import UserError
from embodied.flags import UNLESS

PLANNING = "latent_mpc"
"""Type of the policy that plans over a world model."""


def _at_least(name: str, value: float, minimum: float) -> None:
    if value < minimum:
        raise UserError(f"--{name}={value}: expected at least {minimum}")


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """A LeRobotDataset on disk.

    root: folder of the data set; repo_id: name stored in its metadata; cameras: comma list of cameras to
    use, renamed where an entry reads `old:new`, all if None; episodes: indices to use, all if None;
    success_only: of these the successful ones, by the episode table's mark or `next.success`; task_weights:
    sampling weight per instruction, proportional to the number of frames if None; emphasis: share of the
    training samples drawn by how much the pictures decide, see `embodied.data.emphasis`; augmentation: one of
    `embodied.data.augment.AUGMENTATIONS`, or several with commas between.
    """

    root: Path
    repo_id: str = "local/dataset"
    cameras: str | None = None
    episodes: list[int] | None = None
    success_only: bool = False
    task_weights: dict[str, float] | None = None
    emphasis: float = 0.0
    augmentation: str = "none"


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """`embodied collect`: demonstrations from scripted experts, written as a LeRobotDataset.

    episodes, disturbed_episodes: per task, successful ones with the expert, undisturbed and pushed about by a
    drift of standard deviation `noise`, against which its own choices are recorded; noisy_episodes: with
    white noise of that size, recorded as executed; random_episodes: with uniform random actions;
    wandering_episodes: failed ones, in which the expert and random directions take turns. noise: as a
    share of half the action's range, of a twentieth of that where actions are targets.
    keep_failures: keep unsuccessful expert episodes (marked) instead of drawing new ones.
    An interrupted collection is completed by the same command.
    """

    env: EnvConfig
    dataset: DatasetConfig
    episodes: int = 50
    disturbed_episodes: int = 0
    noisy_episodes: int = 0
    random_episodes: int = 0
    wandering_episodes: int = 0
    noise: float = 0.3
    keep_failures: bool = False
    video: bool = False
    seed: int = 0
    workers: int | None = None
    json: Path | None = None

    def __post_init__(self) -> None:
        kinds = ("", "disturbed_", "noisy_", "random_", "wandering_")
        counts = {f"{kind}episodes": getattr(self, f"{kind}episodes") for kind in kinds}
        for name, value in {**counts, "noise": self.noise}.items():
            _at_least(name, value, 0)
        _at_least("episodes", sum(counts.values()), 1)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with warm-up and cosine decay to `final_lr_fraction`; `ema_decay` 0 turns the average off."""

    lr: float = 1e-3
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    grad_clip: float = 1.0
    warmup_steps: int = 200
    final_lr_fraction: float = 0.01
    ema_decay: float = 0.999


@dataclass(frozen=True, kw_only=True)
class ModelConfig(draccus.ChoiceRegistry):
    """A world model to train on its own, `--model` in place of `--policy`.

    device: where it is trained, the best one present if null; actions: whether it is told which actions were
    taken, if the data set has any; without them it learns what follows what, as from films.
    """

    device: str | None = None
    actions: bool = True


PRECISIONS = ("auto", "no", "bf16")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`embodied train`: a fixed number of steps of anything with `forward(batch) -> (loss, metrics)`.

    policy or model: what to train, a policy unless a world model is named. save_freq, eval_freq: steps
    between checkpoints and between evaluations in `env` (0: never); an evaluated step is saved as well.
    keep_last: newest checkpoints to keep; keep_best: those of highest success to keep beside them, the best
    one under the name `checkpoints/best`; unused without evaluations. mixed_precision: `bf16`, `no`, or
    `auto`, bf16 where the device computes in it itself. resume: continue the run in output_dir from its last
    checkpoint, to the same bits.
    """

    policy: PreTrainedConfig | None = field(default=None, metadata={UNLESS: "model"})
    model: ModelConfig | None = None
    dataset: DatasetConfig
    output_dir: Path
    env: EnvConfig | None = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 5000
    batch_size: int = 64
    accumulation: int = 1
    mixed_precision: str = "auto"
    compile: bool = False
    seed: int = 0
    log_freq: int = 50
    save_freq: int = 1000
    keep_last: int = 3
    keep_best: int = 1
    eval_freq: int = 0
    eval_episodes: int = 20
    eval_seed: int = 900_000
    wandb: bool = False
    resume: bool = False
    json: Path | None = None

    @property
    def device(self) -> str | None:
        """Where the policy or the world model is trained."""
        trained = self.policy or self.model
        return trained.device if trained else None

    def __post_init__(self) -> None:
        if (self.policy is None) == (self.model is None):
            given = "neither is given" if self.policy is None else "both are given"
            raise UserError(f"--policy.type and --model.type: {given}: expected one of them")
        for name in ("steps", "batch_size", "accumulation", "log_freq", "save_freq", "keep_last"):
            _at_least(name, getattr(self, name), 1)
        for name in ("keep_best", "eval_freq"):
            _at_least(name, getattr(self, name), 0)
        if self.mixed_precision not in PRECISIONS:
            raise UserError(
                f"--mixed_precision={self.mixed_precision}: expected one of {', '.join(PRECISIONS)}"
            )
        if self.eval_freq and self.model is not None:
            raise UserError(f"--eval_freq={self.eval_freq}: expected 0 with --model, which does not act")
        if self.eval_freq and self.env is None:
            raise UserError(
                f"--eval_freq={self.eval_freq}: expected an environment, such as --env.task=reach"
            )


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """A trained policy, or a world model to plan over.

    path: a checkpoint folder or a run's output folder, ours or LeRobot's; instead, with type `latent_mpc`,
    world_model_path: the same of what holds the world model. Other `--policy.*` flags override fields of the
    policy's own configuration.
    """

    path: Path | None = None
    type: str | None = None
    world_model_path: Path | None = None

    def __post_init__(self) -> None:
        if self.path is None and self.world_model_path is None:
            raise UserError("--policy.path is missing: expected a path")
        if self.path is not None and self.world_model_path is not None:
            raise UserError(f"--policy.world_model_path={self.world_model_path}: expected no --policy.path")
        expected = None if self.world_model_path is None else PLANNING
        if self.type != expected:
            wanted = f"{PLANNING} with" if expected else f"no such flag without {PLANNING} and"
            raise UserError(f"--policy.type={self.type}: expected {wanted} --policy.world_model_path")

    @property
    def folder(self) -> Path:
        """The one of both paths that is given."""
        folder = self.path or self.world_model_path
        assert folder is not None
        return folder


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """`embodied evaluate`: success rates of a checkpoint on given environment seeds, beside their floors.

    policy.path may also be a folder that `embodied export` wrote, of which `--policy.mode` alone can change.
    Episode i of every task uses environment seed `seed + i`. policy_overrides is filled by the command line.
    calibration: data set from which `--policy.intervention` takes plans and instructions.
    """

    policy: CheckpointConfig
    env: EnvConfig
    policy_overrides: list[str] = field(default_factory=list)
    calibration: DatasetConfig | None = None
    episodes: int = 50
    seed: int = 100_000
    num_envs: int | None = None
    floors: bool = True
    videos: int = 0
    output_dir: Path | None = None
    device: str | None = None
    json: Path | None = None

    def __post_init__(self) -> None:
        _at_least("episodes", self.episodes, 1)


STAGES = ("data", "train", "evaluate")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """`embodied compare DECLARATION`: arms against each other, over training seeds and environment seeds.

    declaration: a JSON file, see `embodied.evaluation.declaration`; output_dir: data sets and checkpoints;
    results: folder of `<name>.json` and of `<name>.jsonl`, a row per episode, output_dir if None; stage: only
    data, train or evaluate; max_minutes: begin nothing more after that time. What is done already is kept.
    """

    declaration: Path
    output_dir: Path
    results: Path | None = None
    stage: str = "all"
    max_minutes: float | None = None
    num_envs: int | None = None
    device: str | None = None
    json: Path | None = None

    def __post_init__(self) -> None:
        if self.stage not in ("all", *STAGES):
            raise UserError(f"--stage={self.stage}: expected all or one of {', '.join(STAGES)}")
        _at_least("max_minutes", self.max_minutes or 0, 0)


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """What was trained: `path` is a checkpoint folder or a run's output folder."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class DiagnoseConfig:
    """`embodied evaluate --model.path=CHECKPOINT`: what its world model knows, each number beside its floor.

    model: a checkpoint that holds a world model; other `--model.*` flags override fields of a policy's own
    configuration, and are gathered in model_overrides. diagnostics: comma list of `rollout` (error against
    horizon, on held-out episodes of `dataset`), `probes` (positions read out of latents), `ranking` (of
    chunks, against the simulator), `surprise` (at impossible edits) and `goals` (planning to a picture of
    where the expert got), all but the first in `env`.
    horizon: chunks that a rollout goes ahead at most; probe_episodes: per task, a quarter of them held out;
    edited_episodes: per task, for surprise; states: for ranking, shared among the tasks; candidates: chunks
    in each; goals: per task; planning: comma list of `latent_mpc`'s settings.
    Environment seeds lie between `seed` and `seed` + 50,000.
    """

    model: SavedModel
    env: EnvConfig
    dataset: DatasetConfig | None = None
    model_overrides: list[str] = field(default_factory=list)
    diagnostics: str = "rollout,probes,ranking,surprise,goals"
    horizon: int = 16
    probe_episodes: int = 200
    edited_episodes: int = 40
    states: int = 100
    candidates: int = 64
    goals: int = 20
    planning: str = "planner=icem"
    seed: int = 300_000
    output_dir: Path | None = None
    device: str | None = None
    json: Path | None = None

    def __post_init__(self) -> None:
        least = {"horizon": 1, "probe_episodes": 16, "edited_episodes": 2, "states": 2, "goals": 1}
        least["candidates"] = 3
        for name, minimum in least.items():
            _at_least(name, getattr(self, name), minimum)


@dataclass(frozen=True, kw_only=True)
class ImagineConfig:
    """`embodied imagine`: what a checkpoint expects of an episode, beside what came, in pictures and numbers.

    Episode i of every task uses environment seed `seed + i`. dataset: frames from which a small decoder
    learns to draw latents, what the checkpoint was trained on if None; decoder_steps: for how long. The
    decoder is kept in output_dir and used again. policy_overrides is filled by the command line.
    """

    policy: CheckpointConfig
    env: EnvConfig
    output_dir: Path
    policy_overrides: list[str] = field(default_factory=list)
    dataset: DatasetConfig | None = None
    episodes: int = 1
    decoder_steps: int = 600
    seed: int = 100_000
    device: str | None = None
    json: Path | None = None

    def __post_init__(self) -> None:
        _at_least("episodes", self.episodes, 1)
        _at_least("decoder_steps", self.decoder_steps, 1)
        if self.policy.world_model_path is not None:
            raise UserError(
                f"--policy.world_model_path={self.policy.world_model_path}: expected --policy.path instead"
            )


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """`embodied bench WHAT`: our speed beside a peer's, in turn in one run; `plan` and `growth` have no peer.

    repeats: paired measurements; steps: environment steps, batches, decisions, training steps or episodes in
    each; batch_size: of `loader` and `train`; dataset_root: data set for `loader`, a temporary one is
    collected if None.
    """

    repeats: int = 5
    steps: int = 60
    image_size: int = 96
    batch_size: int = 64
    dataset_root: Path | None = None
    json: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """`embodied report RUN`: one self-contained HTML file that shows a run.

    run: folder of a training run, an evaluation or a quickstart, or of several; output: the file to write,
    report.html in that folder if None; media_mb: how much of it films may take, in 10^6 bytes.
    """

    run: Path
    output: Path | None = None
    media_mb: float = 15.0
    json: Path | None = None

    def __post_init__(self) -> None:
        _at_least("media_mb", self.media_mb, 0)


@dataclass(frozen=True, kw_only=True)
class RecordedDataset:
    """A LeRobotDataset on disk: `root` is its folder."""

    root: Path


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """`embodied inspect DATASET`: what is in a LeRobotDataset and what is wrong with it; changes nothing.

    all_frames: look at every picture instead of at most 512 per camera. DATASET is short for --dataset.root.
    """

    dataset: RecordedDataset
    all_frames: bool = False
    json: Path | None = None


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """`embodied doctor`: what this machine offers and what to do about each problem."""

    json: Path | None = None


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """`embodied quickstart`: collect, train and evaluate with fixed steps, in `output_dir`."""

    output_dir: Path = Path("runs/quickstart")
    episodes: int = 120
    steps: int = 3000
    eval_episodes: int = 60
    seed: int = 0
    json: Path | None = None
