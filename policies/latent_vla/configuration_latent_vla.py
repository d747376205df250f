"""Configuration of `latent_vla`. Sizes left at 0 are filled in by the preset."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import NormalizationMode
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig
from lerobot.utils.constants import ACTION, OBS_STATE

from policies.latent_vla.backbone import BACKBONES
from policies.latent_vla.continuation import CONTINUATIONS
from policies.latent_vla.imagination import IMAGINATIONS
from policies.latent_vla.interventions import INTERVENTIONS
from policies.latent_vla.memory import MEMORIES
from policies.latent_vla.normalization import complete
from policies.latent_vla.presets import PRESETS
from policies.latent_vla.subgoals import BLOCK_ORDERS

MODES = ("reactive", "imagine", "plan")
"""How a checkpoint decides at run time: at once, after imagining future scenes, or by choosing among several
chunks what the world model foresees for each."""

REFINERS = ("rank", "cem")
"""How `plan` comes to its chunk: the best of those proposed, or one found between the best of them."""

RANKINGS = ("model", "shuffled")
"""How `plan` chooses: by foreseen outcomes, or, as a control, by outcomes that were dealt out at random."""

OF_VLMS = ("vlm", "vlm_layers", "vlm_image_size", "lora_rank")
"""Fields that only a pretrained backbone has a use for."""

MAY_BE_0 = (*OF_VLMS[1:], "memory_tokens", "memory_window", "memory_decisions", "guided_latents")
"""Numbers that turn a part off."""


@PreTrainedConfig.register_subclass("latent_vla")
@dataclass
class LatentVLAConfig(PreTrainedConfig):
    """Latent VLA: scene encoder, causal language-model backbone, action head.

    chunk_size: action horizon H in environment steps; n_action_steps: how many of them are executed before
    the next look, also the stride in environment steps at which history is sampled; n_obs_steps: history
    length T. flow_samples: noise draws per observation in training; euler_steps: denoising steps at run time;
    temperature: scale of the noise that decoding starts from, 0 for the one most typical chunk;
    continuation: how a chunk continues the one before, see `CONTINUATIONS`; exports know `inpainting` alone.

    guided_latents: of the `num_latents` tokens of a scene, how many look for what the instruction names
    (0: none), see `policies.latent_vla.guidance`; a world model's must be the same whatever is asked for.
    waypoint_loss_weight: of predicting where the robot will be when its present sub-goal, or the episode, is
    done, which the action head then reads (0: not predicted).

    backbone: `scratch`, an untrained image tower and language model of sizes `tower`, `depth`, `heads`; or
    `pretrained`, those of a VLM. vlm: its name on the hub, or its folder; vlm_layers: how many of its
    language model's layers to use, from the first (0: all); vlm_image_size: longest side in pixels that its
    vision tower sees (0: what suits the VLM); freeze_vlm: train nothing of it but adapters of rank
    `lora_rank` in its language model (0: none); vlm_lr: peak learning rate of what is trained of it.
    vlm_config: filled in by the policy, so that checkpoints need no VLM beside them.

    imagination: `none`, `latent`, `inert` (as many tokens that mean nothing, a control; with sub-goals, a
    plan in words alone) or `grounded` (a plan in words that looks for what it names); imagined_steps: N
    future scenes, H environment steps apart; reactive_half: whether half of a batch learns to decide at once,
    or all of it after imagining; imagination_reads_instruction: whether imagined scenes come on
    top of the instruction for the action head, instead of carrying it. imagine_subgoals: imagine beside each
    scene which of the data set's sub-goals is pursued on the way to it; subgoals: these, filled in by
    `embodied train`, others at run time; block_order: of both as the action head reads them: `BLOCK_ORDERS`;
    `grouped` scenes are also imagined without the sub-goals. chain_of_thought: think, in place of the
    sub-goals to come, the N thoughts of the present one, told apart by `;` ("find the red cube; touch the pin
    left of it"); each look of a grounded plan then goes on from the one before. world_model: learn what
    actions do; needed for `latent` imagination and for `plan`. proprioceptive_latents: whether latents hold
    the state as well, so that what is foreseen of the robot itself is as exact as its joints; goals then need
    a state too.
    mode: how to decide at run time, see `MODES`; `plan` draws `candidates` chunks at `proposal_temperature`,
    the share `exploration` of them as failed episodes acted (their score is lowered by exploration_cost), and
    takes the best by reward_weight, value_weight and imagination_distance_weight; ranking: see `RANKINGS`;
    planner: see `REFINERS`, `cem` takes `refinements` iterations of as many candidates again.
    intervention: what takes the place of imagined scenes, see `interventions.INTERVENTIONS`. *_loss_weight:
    of a part of the loss beside the action's.

    memory_tokens: looks that a bank over the episode holds before it merges similar ones (0: no memory);
    memory_window: W, looks in a row that training sees at once, as many whole episodes as fit, at least its
    longest; `--batch_size` then counts windows. memory_decisions: at how many looks of a window training also
    decides (0: all); the others are only remembered. memory_subgoals: whether what a look is remembered by
    holds the sub-goal that was said at it, too. memory: what is read at run time, see `MEMORIES`.

    normalization_mapping: per kind (STATE, ENV, ACTION, VISUAL) one of MEAN_STD, MIN_MAX, QUANTILES (1 and
    99 %), QUANTILE10 (10 and 90 %), IDENTITY; kinds that are not named keep their default. relative_actions:
    the network predicts actions relative to the state at the chunk's start, for joints named the same in
    state and action; relative_exclude_joints: parts of the names of joints that stay absolute.

    world_model_path: checkpoint of a world model that was trained alone (`embodied train --model.type=jepa`),
    from which image tower and queries start, and the dynamics if the policy has one like it. `embodied train`
    reads and clears it before a policy is built.

    save_predicted_video: LeRobot's evaluation writes a film of the scenes that the policy expects at the end
    of each chunk, drawn by video_decoder, a file that `embodied imagine` wrote for this checkpoint.
    """

    preset: str = "tiny"
    mode: str = "reactive"
    chunk_size: int = 12
    n_action_steps: int = 12

    backbone: str = ""
    vlm: str = ""
    vlm_layers: int = 0
    vlm_image_size: int = 0
    freeze_vlm: bool = True
    lora_rank: int = 0
    vlm_lr: float = 1e-4
    vlm_config: dict[str, Any] = field(default_factory=dict)

    tower: str = ""
    num_latents: int = 0
    guided_latents: int = 0
    waypoint_loss_weight: float = 0.0
    latent_heads: int = 0
    dim: int = 0
    depth: int = 0
    heads: int = 0
    max_instruction_bytes: int = 256

    action_head: str = "flow"
    head_dim: int = 0
    head_depth: int = 0
    head_heads: int = 0
    action_tokens: int = 0
    flow_samples: int = 2
    euler_steps: int = 4
    temperature: float = 0.0
    continuation: str = "inpainting"

    imagination: str = "none"
    imagined_steps: int = 2
    reactive_half: bool = True
    imagination_reads_instruction: bool = False
    imagination_loss_weight: float = 1.0
    imagine_subgoals: bool = False
    chain_of_thought: bool = False
    subgoals: list[str] = field(default_factory=list)
    block_order: str = "interleaved"
    subgoal_loss_weight: float = 0.1
    world_model: bool = False
    proprioceptive_latents: bool = False
    dynamics_depth: int = 0
    dynamics_heads: int = 0
    dynamics_loss_weight: float = 1.0
    sigreg_loss_weight: float = 0.05
    outcome_loss_weight: float = 0.5

    candidates: int = 16
    proposal_temperature: float = 1.0
    exploration: float = 0.5
    exploration_cost: float = 0.0
    reward_weight: float = 1.0
    value_weight: float = 0.0
    imagination_distance_weight: float = 0.0
    ranking: str = "model"
    planner: str = "rank"
    refinements: int = 2
    intervention: str = "none"

    memory_tokens: int = 0
    memory_window: int = 0
    memory_decisions: int = 0
    memory_subgoals: bool = False
    memory: str = "kept"

    normalization_mapping: dict[str, NormalizationMode] = field(default_factory=dict)
    relative_actions: bool = False
    relative_exclude_joints: list[str] = field(default_factory=lambda: ["gripper"])
    push_to_hub: bool = False  # type: ignore[assignment]
    world_model_path: Path | None = None
    save_predicted_video: bool = False
    video_decoder: Path | None = None

    optimizer_lr: float = 1e-3
    optimizer_weight_decay: float = 1e-4
    scheduler_warmup_steps: int = 200
    scheduler_decay_steps: int = 6000

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect(self.preset in PRESETS, "preset", f"one of {', '.join(PRESETS)}")
        for name, value in PRESETS[self.preset]().items():
            if not getattr(self, name):
                setattr(self, name, value)
        self._validate_backbone()
        self._validate_thinking()
        self._validate_subgoals()
        self._validate_memory()
        self.normalization_mapping = complete(self.normalization_mapping, self.relative_actions)
        self._validate_sizes()

    def _expect(self, is_right: object, names: str, expected: str) -> None:
        """ValueError that says the values of fields, and what was expected, unless that is right."""
        if not is_right:
            values = [(name, getattr(self, name)) for name in names.split()]
            found = (f"--policy.{name}={'true' if value is True else value}" for name, value in values)
            raise ValueError(f"{' '.join(found)}: expected {expected}")

    def _validate_backbone(self) -> None:
        self._expect(self.backbone in BACKBONES, "backbone", f"one of {', '.join(BACKBONES)}")
        for name in MAY_BE_0:
            self._expect(getattr(self, name) >= 0, name, "at least 0")
        needed = {"scratch": ("world_model_path",), "pretrained": OF_VLMS}
        for backbone, names in needed.items():
            for name in names:
                is_right = backbone == self.backbone or not getattr(self, name)
                self._expect(is_right, name, f"--policy.backbone={backbone} as well")
        has_vlm = self.backbone != "pretrained" or self.vlm
        self._expect(has_vlm, "backbone", "--policy.vlm=NAME_OR_FOLDER as well")
        self._expect(self.freeze_vlm or not self.lora_rank, "lora_rank", "--policy.freeze_vlm=true as well")

    def _validate_thinking(self) -> None:
        choices = {
            "mode": MODES,
            "imagination": IMAGINATIONS,
            "ranking": RANKINGS,
            "planner": REFINERS,
            "intervention": tuple(INTERVENTIONS),
            "block_order": tuple(BLOCK_ORDERS),
            "memory": MEMORIES,
            "continuation": tuple(CONTINUATIONS),
        }
        for name, known in choices.items():
            self._expect(getattr(self, name) in known, name, f"one of {', '.join(known)}")
        foresees = self.imagination != "latent" or self.world_model
        self._expect(foresees, "imagination", "--policy.world_model=true as well")
        imagines = self.imagination != "none"
        at_once = self.reactive_half or not imagines
        needs = {"reactive": at_once, "imagine": imagines, "plan": self.world_model and at_once}
        able = [mode for mode in MODES if needs.get(mode, True)]
        self._expect(self.mode in able, "mode", f"{' or '.join(able)}, which it was trained for")
        is_cem = self.planner == "cem"
        self._expect(not is_cem or self.ranking == "model", "ranking", "model with --policy.planner=cem")
        self._expect(not is_cem or self.candidates >= 3, "candidates", "at least 3 for cem")
        looks_ahead = "--policy.mode=imagine, or plan with an --policy.imagination_distance_weight"
        self._expect(
            self.intervention == "none" or self.imagines,
            "intervention",
            f"{looks_ahead}, of a policy that was trained to imagine",
        )
        self._expect(
            not self.save_predicted_video or (self.world_model and self.video_decoder),
            "save_predicted_video",
            "a policy with a world model, and --policy.video_decoder=FILE, which `embodied imagine` writes",
        )
        self._expect(0 <= self.exploration <= 1, "exploration", "0 to 1")

    def _validate_memory(self) -> None:
        window, memory = self.memory_window, self.memory_tokens
        self._expect(bool(memory) == bool(window), "memory_tokens memory_window", "both or neither above 0")
        self._expect(self.memory_decisions <= window, "memory_decisions", f"at most memory_window={window}")
        is_read = self.memory == "kept" or memory
        self._expect(is_read, "memory", "a policy with --policy.memory_tokens")
        words = "--policy.memory_tokens and --policy.imagine_subgoals=true as well"
        thinks = memory and self.imagine_subgoals
        self._expect(thinks or not self.memory_subgoals, "memory_subgoals", words)

    def _validate_subgoals(self) -> None:
        says, imagination = self.imagine_subgoals, self.imagination
        has_plan = not says or imagination != "none"
        self._expect(has_plan, "imagine_subgoals", "--policy.imagination=latent, inert, grounded")
        needs_words = {
            "imagination": imagination == "grounded",
            "block_order": self.block_order != "interleaved",
            "chain_of_thought": self.chain_of_thought,
        }
        for name, needs in needs_words.items():
            self._expect(says or not needs, name, "--policy.imagine_subgoals=true as well")
        is_now = not self.chain_of_thought or imagination != "latent"
        self._expect(is_now, "chain_of_thought", "--policy.imagination=inert or grounded")
        can_shuffle = self.block_order != "shuffled" or self.imagined_steps > 1
        self._expect(can_shuffle, "block_order", "--policy.imagined_steps of 2 or more")

    def _validate_sizes(self) -> None:
        for item in fields(self):
            if item.type is int and item.name not in MAY_BE_0:
                self._expect(getattr(self, item.name) >= 1, item.name, "at least 1")
        for name in ("temperature", "proposal_temperature", "waypoint_loss_weight"):
            self._expect(getattr(self, name) >= 0, name, "at least 0")
        chunk, latents = self.chunk_size, self.num_latents
        self._expect(self.n_action_steps <= chunk, "n_action_steps", f"at most chunk_size={chunk}")
        self._expect(
            self.guided_latents <= (0 if self.world_model else latents),
            "guided_latents",
            f"at most num_latents={latents}, and 0 with world_model=true",
        )
        self._expect(chunk % self.action_tokens == 0, "action_tokens", f"a divisor of chunk_size={chunk}")

    @property
    def imagines(self) -> bool:
        """Whether imagined scenes have a say in what is decided."""
        looks_ahead = self.mode == "plan" and self.imagination_distance_weight > 0
        return self.imagination != "none" and (self.mode == "imagine" or looks_ahead)

    @property
    def state_size(self) -> int:
        """Numbers in the proprioceptive state."""
        return self.robot_state_feature.shape[0] if self.robot_state_feature else 0

    @property
    def action_size(self) -> int:
        """Numbers in one action."""
        return self.action_feature.shape[0] if self.action_feature else 0

    def validate_features(self) -> None:
        """Cameras of one size, a proprioceptive state and an action are needed; ValueError otherwise."""
        if self.world_model_path is not None:
            raise ValueError(
                f"--policy.world_model_path={self.world_model_path}: only `embodied train` reads it, "
                "expected no such flag here"
            )
        if self.imagine_subgoals and not self.subgoals:
            raise ValueError(
                "--policy.imagine_subgoals=true: expected --policy.subgoals as well, which `embodied train` "
                "takes from the data set"
            )
        shapes = {key: tuple(feature.shape) for key, feature in self.image_features.items()}
        if not shapes or len(set(shapes.values())) != 1:
            raise ValueError(f"cameras {shapes or 'none'}: expected at least one, all of one size")
        if not self.state_size:
            raise ValueError(f"input features {sorted(self.input_features or {})}: expected {OBS_STATE}")
        if not self.action_size:
            raise ValueError(f"output features {sorted(self.output_features or {})}: expected {ACTION}")

    def get_optimizer_preset(self) -> AdamWConfig:
        """AdamW for `lerobot-train`."""
        return AdamWConfig(lr=self.optimizer_lr, weight_decay=self.optimizer_weight_decay, grad_clip_norm=1.0)

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        """Warm-up and cosine decay for `lerobot-train`."""
        return CosineDecayWithWarmupSchedulerConfig(
            peak_lr=self.optimizer_lr,
            decay_lr=self.optimizer_lr * 0.01,
            num_warmup_steps=self.scheduler_warmup_steps,
            num_decay_steps=self.scheduler_decay_steps,
        )

    @property
    def rounds(self) -> int:
        """R: how many times `plan` looks at so many candidates."""
        return 1 + (self.refinements if self.planner == "cem" else 0)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Noise that a decision takes per observation: (H, A), for C candidates in R rounds (R * C, H, A)."""
        shape = (self.chunk_size, self.action_size)
        return (self.rounds * self.candidates, *shape) if self.mode == "plan" else shape

    @property
    def future_steps(self) -> int:
        """N: moments beyond the present that training looks at, each a chunk after the one before."""
        return self.imagined_steps if self.world_model else 0

    @property
    def observation_delta_indices(self) -> list[int] | None:
        """Offsets of history, oldest first, and future, in environment steps; None for the present alone."""
        if self.n_obs_steps == 1 and not self.future_steps:
            return None
        past = [-self.n_action_steps * step for step in reversed(range(self.n_obs_steps))]
        return past + [self.chunk_size * (step + 1) for step in range(self.future_steps)]

    @property
    def subgoal_delta_indices(self) -> list[int] | None:
        """The moments at which what is pursued leads to the next; None where sub-goals are not imagined."""
        if not self.imagine_subgoals:
            return None
        return [self.chunk_size * step for step in range(1 if self.chain_of_thought else self.imagined_steps)]

    @property
    def action_delta_indices(self) -> list[int]:
        """Offsets in environment steps of the chunk to act, and of those after it for the world model."""
        return list(range(self.chunk_size * max(1, self.future_steps)))

    @property
    def reward_delta_indices(self) -> list[int] | None:
        """The action that leads to each future moment; None where rewards are not used."""
        if not self.future_steps:
            return None
        return [self.chunk_size * (step + 1) - 1 for step in range(self.future_steps)]
