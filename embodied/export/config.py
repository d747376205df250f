"""Configuration of `embodied export`."""

from dataclasses import dataclass, field
from pathlib import Path

from embodied.config import CheckpointConfig, DatasetConfig
from embodied.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """`embodied export`: a checkpoint as ONNX graphs that run without torch and lerobot.

    output_dir: the folder to write, if every graph decides as the checkpoint does; modes: comma list of
    `reactive` and `imagine`, those that the policy was trained for if None; dataset: where the observations
    to compare at come from, what the checkpoint was trained on if None; observations: how many.
    policy_overrides is filled by the command line.
    """

    policy: CheckpointConfig
    output_dir: Path
    policy_overrides: list[str] = field(default_factory=list)
    modes: str | None = None
    dataset: DatasetConfig | None = None
    observations: int = 100
    seed: int = 0
    json: Path | None = None

    def __post_init__(self) -> None:
        if self.observations < 1:
            raise UserError(f"--observations={self.observations}: expected at least 1")
        if self.policy.path is None:
            raise UserError(
                f"--policy.world_model_path={self.policy.world_model_path}: expected --policy.path instead"
            )
        if self.output_dir.exists():
            raise UserError(f"--output_dir={self.output_dir}: is there already: expected a new folder")
