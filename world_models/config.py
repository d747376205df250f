"""Configuration of world models that are trained on their own; needs no image models to be imported.

T history moments, N rollout steps, h environment steps of a chunk, G size of the goal's description.
"""

from dataclasses import dataclass, field, fields

from world_models.jepa import LossWeights
from world_models.presets import PRESETS

EPISODE_END = 1_000_000
"""An offset behind every episode's end: windows stop there, at its last moment."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """What a world model sees of an episode at once.

    history: moments T that are seen, `chunk_steps` environment steps apart; rollout_steps: predictions N in a
    row, each for the `chunk_steps` h actions of a chunk; max_instruction_bytes: of the longest instruction.
    """

    history: int = 1
    rollout_steps: int = 2
    chunk_steps: int = 12
    max_instruction_bytes: int = 256

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type is int and value < 1:
                raise ValueError(f"--model.{item.name}={value}: expected at least 1")

    @property
    def sees_ending(self) -> bool:
        """Whether a clip holds the episode's last moment as well."""
        return False

    @property
    def observation_delta_indices(self) -> list[int]:
        """Offsets of the T + N moments in environment steps, the oldest first; the present is 0.

        Where it is seen, the episode's last moment comes behind them.
        """
        moments = [self.chunk_steps * step for step in range(1 - self.history, self.rollout_steps + 1)]
        return [*moments, EPISODE_END] if self.sees_ending else moments

    @property
    def action_delta_indices(self) -> list[int]:
        """Offsets of the N h actions."""
        return list(range(self.chunk_steps * self.rollout_steps))

    @property
    def reward_delta_indices(self) -> list[int]:
        """Offsets of the N actions that lead to each future moment."""
        return [self.chunk_steps * (step + 1) - 1 for step in range(self.rollout_steps)]


@dataclass(frozen=True, kw_only=True)
class JEPAConfig(ClipConfig):
    """JEPA with SIGReg, trained from pixels. Sizes left at 0 are filled in by the preset.

    tower: image tower, see `world_models.encoders.TOWERS`; num_latents: latent tokens K of a scene;
    latent_heads: of the queries that read them; dim: width D of a token. dynamics_depth, dynamics_heads: of
    the dynamics' transformer; goal_dim: width G of the instruction's vector; directions: random projections
    of SIGReg; inverse_dynamics: whether it learns too which chunk leads from a scene towards a later one of
    its episode, the last one included; teacher: a timm model whose features are regressed from the latents,
    or `none`; teacher_pretrained: download its weights, random ones otherwise;
    loss_weights, teacher_loss_weight: of each part of the loss.
    """

    preset: str = "tiny"
    tower: str = ""
    num_latents: int = 0
    latent_heads: int = 0
    dim: int = 0
    dynamics_depth: int = 0
    dynamics_heads: int = 0
    goal_dim: int = 64
    directions: int = 64
    inverse_dynamics: bool = False
    loss_weights: LossWeights = field(default_factory=LossWeights)
    teacher: str = "none"
    teacher_pretrained: bool = True
    teacher_loss_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"--model.preset={self.preset}: expected one of {', '.join(PRESETS)}")
        for name, value in PRESETS[self.preset]().items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)
        super().__post_init__()
        if self.dim % self.dynamics_heads:
            raise ValueError(
                f"--model.dynamics_heads={self.dynamics_heads}: expected a divisor of dim={self.dim}"
            )
        weights = {f"loss_weights.{name}": weight for name, weight in vars(self.loss_weights).items()}
        for name, weight in {**weights, "teacher_loss_weight": self.teacher_loss_weight}.items():
            if weight < 0:
                raise ValueError(f"--model.{name}={weight}: expected at least 0")

    @property
    def sees_ending(self) -> bool:
        """Inverse dynamics are asked for the way there, too."""
        return self.inverse_dynamics


@dataclass(frozen=True, kw_only=True)
class LeWMConfig(ClipConfig):
    """LeWorldModel as published (arXiv 2603.19312), a peer: needs the extra `peers`.

    patch_size: of its ViT, pixels; dim: width D of a picture's one token; encoder_depth, encoder_heads: of
    the ViT; dynamics_depth, dynamics_heads, dropout: of its predictor; hidden: width of predictor and
    projectors; sigreg_weight: of its loss beside the prediction's, over `directions` random projections.
    history is 1: its predictor sees all moments of a clip before the one that it predicts.
    """

    rollout_steps: int = 3
    patch_size: int = 12
    dim: int = 192
    encoder_depth: int = 12
    encoder_heads: int = 3
    dynamics_depth: int = 6
    dynamics_heads: int = 16
    hidden: int = 2048
    dropout: float = 0.1
    sigreg_weight: float = 0.09
    directions: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.history != 1:
            raise ValueError(f"--model.history={self.history}: expected 1 for lewm")
        if self.dim % self.encoder_heads:
            raise ValueError(f"--model.encoder_heads={self.encoder_heads}: expected a divisor of {self.dim}")

    @property
    def num_latents(self) -> int:
        """K."""
        return 1


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the data decide: cameras V, action size A (0: unknown), state size S (0: none), number of
    instruction ids, teacher's features F (0: no teacher).
    """

    cameras: int
    action_dim: int
    state_dim: int
    vocabulary: int
    teacher_dim: int = 0
