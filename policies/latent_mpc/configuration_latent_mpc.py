"""Configuration of `latent_mpc`: which world model, which goal, how much search."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import PolicyFeature
from lerobot.utils.constants import OBS_PREFIX

from world_models.costs import OVER
from world_models.planners import PlannerConfig, make_planner

GOALS = ("image", "imagined", "none")
"""Where to: what the cameras shall see, what the world model's policy imagines from the instruction, or to
wherever reward and value are foreseen."""

BEGINNINGS = ("data", "inverse")
"""Where a search begins: at the data's mean action, or at what the world model's inverse dynamics do."""

NOT_TRAINED = (
    "--policy.type=latent_mpc: plans over a world model and is not trained: expected to train that, "
    "then --policy.world_model_path"
)


GOAL_PREFIX = f"{OBS_PREFIX}goal."


def goal_key(camera: str) -> str:
    """Where a batch has the goal picture (B, 3, H, W), in [0, 1], of a camera.

    `observation.goal.images.corner` for `observation.images.corner`.
    """
    return GOAL_PREFIX + camera.removeprefix(OBS_PREFIX)


@dataclass(frozen=True, kw_only=True)
class WorldSpecification:
    """What a world model fixes for whoever plans over it.

    history: T moments, n_action_steps environment steps apart; chunk_size: h; imagines: whether it can
    imagine scenes from an instruction; inverts: whether it has inverse dynamics; judges: whether it reads
    what a scene is worth.
    """

    input_features: dict[str, PolicyFeature]
    output_features: dict[str, PolicyFeature]
    history: int
    chunk_size: int
    n_action_steps: int
    imagines: bool
    inverts: bool
    judges: bool


@PreTrainedConfig.register_subclass("latent_mpc")
@dataclass
class LatentMPCConfig(PreTrainedConfig):
    """Model-predictive control in latent space.

    world_model_path: checkpoint folder from which a new policy takes its world model, with its processors,
    its features, chunk_size and, unless given, n_action_steps; world_model: that model's configuration,
    filled in from there and saved with the policy, which holds the weights itself from then on.

    goal: see `GOALS`; goal_over: whether the distance to it counts after the `final` foreseen step, as the
    `min` or the `mean` over all. The cost is goal_weight times that distance, less reward_weight times the
    mean foreseen reward, less value_weight times the value at the end, plus prior_weight times how far
    actions are from the data's, in mean squared standard deviations.

    planner: a key of `world_models.planners.PLANNERS`; plan_chunks: N chunks of chunk_size environment steps
    are planned, n_action_steps are executed before the next look; candidates, iterations, elites, min_std,
    kept, colour, temperature, step_size: see `PlannerConfig`; start_std: spread of the first candidates;
    action_limit: bound on actions, both in units of normalised actions; the data's own range binds as well;
    begin: see `BEGINNINGS`; warm_start: go on from the rest of the plan before, where more is planned than
    executed and nothing better is at hand.
    """

    world_model_path: Path | None = None
    world_model: dict[str, Any] = field(default_factory=dict)

    goal: str = "image"
    goal_over: str = "final"
    goal_weight: float = 1.0
    reward_weight: float = 0.0
    value_weight: float = 0.0
    prior_weight: float = 0.0

    planner: str = "cem"
    plan_chunks: int = 1
    chunk_size: int = 0
    n_action_steps: int = 0
    candidates: int = PlannerConfig.candidates
    iterations: int = PlannerConfig.iterations
    elites: int = PlannerConfig.elites
    min_std: float = PlannerConfig.min_std
    kept: int = PlannerConfig.kept
    colour: float = PlannerConfig.colour
    temperature: float = PlannerConfig.temperature
    step_size: float = PlannerConfig.step_size
    start_std: float = 1.0
    action_limit: float = 3.0
    begin: str = "data"
    warm_start: bool = True

    push_to_hub: bool = False  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, expected in {"goal": GOALS, "goal_over": OVER, "begin": BEGINNINGS}.items():
            if getattr(self, name) not in expected:
                raise ValueError(
                    f"--policy.{name}={getattr(self, name)}: expected one of {', '.join(expected)}"
                )
        for name in ("goal_weight", "reward_weight", "value_weight", "prior_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"--policy.{name}={getattr(self, name)}: expected at least 0")
        for name in ("start_std", "action_limit", "plan_chunks"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--policy.{name}={getattr(self, name)}: expected more than 0")
        if self.goal == "none":
            self._validate_goalless()
        try:
            make_planner(self.planner, self.search)
        except ValueError as error:
            raise ValueError(f"--policy.{error}") from error
        if self.chunk_size:
            self._validate_steps()

    def _validate_goalless(self) -> None:
        if not self.reads_outcomes:
            raise ValueError(
                "--policy.goal=none: expected --policy.reward_weight or --policy.value_weight above 0"
            )
        if self.begin == "inverse":
            raise ValueError("--policy.begin=inverse: expected --policy.goal=image, found none")

    def _validate_steps(self) -> None:
        planned = self.plan_chunks * self.chunk_size
        if not 0 < self.n_action_steps <= planned:
            raise ValueError(
                f"--policy.n_action_steps={self.n_action_steps}: expected 1 to {planned}, the steps planned"
            )

    def adopt(self, world_model: dict[str, Any], specification: WorldSpecification) -> None:
        """Take over what a world model fixes. Its n_action_steps count where none were given."""
        if self.goal == "imagined" and not specification.imagines:
            raise ValueError(
                "--policy.goal=imagined: the world model imagines nothing: expected one trained with "
                "--policy.imagination=latent and without memory"
            )
        if self.begin == "inverse" and not specification.inverts:
            raise ValueError(
                "--policy.begin=inverse: the world model has no inverse dynamics: expected one trained with "
                "--model.inverse_dynamics=true"
            )
        if self.reads_outcomes and not specification.judges:
            raise ValueError(
                f"--policy.reward_weight={self.reward_weight:g} --policy.value_weight={self.value_weight:g}: "
                "the world model reads no outcomes: expected 0 for both, or a jepa"
            )
        self.world_model = world_model
        self.input_features = dict(specification.input_features)
        self.output_features = dict(specification.output_features)
        self.n_obs_steps, self.chunk_size = specification.history, specification.chunk_size
        self.n_action_steps = self.n_action_steps or specification.n_action_steps
        self._validate_steps()

    @property
    def search(self) -> PlannerConfig:
        """How much the planner searches."""
        return PlannerConfig(**{item.name: getattr(self, item.name) for item in fields(PlannerConfig)})

    @property
    def reads_outcomes(self) -> bool:
        """Whether foreseen reward or value count."""
        return self.reward_weight > 0 or self.value_weight > 0

    @property
    def goes_on(self) -> bool:
        """Whether a search starts from the one before."""
        return (
            self.warm_start
            and self.begin == "data"
            and self.n_action_steps < self.plan_chunks * self.chunk_size
        )

    @property
    def plan_shape(self) -> tuple[int, int, int]:
        """(N, h, A) of a plan."""
        assert self.action_feature is not None
        return (self.plan_chunks, self.chunk_size, self.action_feature.shape[0])

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Noise that a decision takes per observation: (R, C, N, h, A)."""
        return (make_planner(self.planner, self.search).rounds, self.candidates, *self.plan_shape)

    def validate_features(self) -> None:
        """Features are the world model's, which has validated them."""

    @property
    def observation_delta_indices(self) -> None:
        """None: not trained."""

    @property
    def action_delta_indices(self) -> None:
        """None: not trained."""

    @property
    def reward_delta_indices(self) -> None:
        """None: not trained."""

    def get_optimizer_preset(self) -> Any:
        """Raise ValueError: not trained."""
        raise ValueError(NOT_TRAINED)

    def get_scheduler_preset(self) -> None:
        """None: not trained."""
