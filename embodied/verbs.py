"""What `embodied <verb>` can be: what each verb calls, and which flags it takes. Importing it is cheap."""

from collections.abc import Mapping
from dataclasses import dataclass, field

ROBOTS = (
    "lerobot.cameras.opencv",
    "lerobot.robots.bi_so_follower",
    "lerobot.robots.koch_follower",
    "lerobot.robots.so_follower",
    "embodied.robots.devices",
)
"""Their import registers robots and cameras; another robot needs a profile, and its package, anyway."""

OURS = "embodied.lerobot_plugin"
"""Registers our environments and policies; takes seconds, as it brings torch and LeRobot with it."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What `embodied <verb>` does: `function` (module:name) is called with a `config`.

    config: a class of embodied.config, or module:name.
    """

    summary: str
    config: str
    function: str
    example: str
    renders: bool = True
    """Whether it draws even without an `--env` flag."""

    registers: tuple[str, ...] = (OURS,)
    """Modules whose import adds choices to its flags."""

    overrides: str | None = None
    """Group of flags of which all but `<group>.path` are handed on unread, as `<group>_overrides`."""

    word: str | None = None
    """Flag that a word behind the verb stands for: `embodied report RUN` is `report --run=RUN`."""

    instead: Mapping[str, "Verb"] = field(default_factory=dict)
    """What it does where a flag of some group is given, by the name of that group."""


DIAGNOSE = Verb(
    summary="what a checkpoint's world model knows, each number beside its floor",
    config="DiagnoseConfig",
    function="embodied.evaluation.diagnostics.diagnose:diagnose",
    example="--model.path=runs/mt10 --dataset.root=data/held_out --env.task=mt10",
    overrides="model",
)
LOOK = Verb(
    summary="whether a policy looks: what it foresees of held-out demonstrations beyond state and words",
    config="embodied.evaluation.diagnostics.looking:LookConfig",
    function="embodied.evaluation.diagnostics.looking:look",
    example="--policy.path=runs/so101 --dataset.root=data/held_out",
    renders=False,
    overrides="policy",
)
VERBS = {
    "quickstart": Verb(
        summary="collect demonstrations, train a policy and evaluate it, with fixed settings",
        config="QuickstartConfig",
        function="embodied.quickstart:quickstart",
        example="--output_dir=runs/quickstart",
    ),
    "collect": Verb(
        summary="write demonstrations of scripted experts as a LeRobotDataset",
        config="CollectConfig",
        function="embodied.data.collect:collect",
        example="--env.task=mt10 --episodes=50 --dataset.root=data/mt10",
    ),
    "inspect": Verb(
        summary="what is in a LeRobotDataset, and what is wrong with it",
        config="InspectConfig",
        function="embodied.data.inspection.run:inspect_dataset",
        example="data/mt10 --json=inspection.json",
        renders=False,
        word="dataset.root",
    ),
    "train": Verb(
        summary="train a policy, or a world model (--model.type=jepa), on a LeRobotDataset",
        config="TrainConfig",
        function="embodied.training.loop:train",
        example="--policy.preset=tiny --dataset.root=data/mt10 --output_dir=runs/mt10",
        renders=False,
        registers=(OURS, "lerobot.policies", "embodied.training.world_models"),
    ),
    "evaluate": Verb(
        summary="success rates of a checkpoint; with --dataset.root whether it looks, with --model.path what "
        "its world model knows",
        config="EvaluateConfig",
        function="embodied.evaluation.evaluate:evaluate",
        example="--policy.path=runs/mt10 --env.task=mt10 --episodes=50",
        overrides="policy",
        instead={"model": DIAGNOSE, "dataset": LOOK},
    ),
    "compare": Verb(
        summary="arms against each other over training and environment seeds, from one declaration",
        config="CompareConfig",
        function="embodied.compare:compare",
        example="comparisons/gap.json --output_dir=runs/gap --results=results",
        registers=(OURS, "lerobot.policies", "embodied.training.world_models"),
        word="declaration",
    ),
    "imagine": Verb(
        summary="what a checkpoint imagines and foresees, beside what came, for the report",
        config="ImagineConfig",
        function="embodied.imagining.run:imagine",
        example="--policy.path=runs/mt10 --env.task=reach --output_dir=runs/mt10/imagine",
        overrides="policy",
    ),
    "run": Verb(
        summary="drive a robot, real or simulated, by a policy here or on a server, within safety limits",
        config="embodied.serving.run_config:RunConfig",
        function="embodied.serving.run:run",
        example="--robot.type=sim_so101 --server.url=ws://127.0.0.1:8000 --task='reach the red cube'",
        renders=False,
        registers=(OURS, *ROBOTS),
        overrides="policy",
    ),
    "serve": Verb(
        summary="a checkpoint or an exported policy for robots that connect",
        config="embodied.serving.config:ServeConfig",
        function="embodied.serving.serve:serve",
        example="--policy.path=runs/so101 --port=8000",
        renders=False,
        registers=(),
        overrides="policy",
    ),
    "chaos": Verb(
        summary="kill and freeze server, network, client or robot in simulation: does the arm hold in time?",
        config="embodied.chaos.config:ChaosConfig",
        function="embodied.chaos.chaos:chaos",
        example="--null --robot.type=sim_so101 --output_dir=runs/chaos",
        registers=ROBOTS,
        overrides="policy",
    ),
    "export": Verb(
        summary="a checkpoint as ONNX graphs, compared with it, that run without torch and lerobot",
        config="embodied.export.config:ExportConfig",
        function="embodied.export.export:export",
        example="--policy.path=runs/mt10 --output_dir=exported/mt10",
        renders=False,
        overrides="policy",
    ),
    "report": Verb(
        summary="one HTML file that shows a run: success, films, curves, where it comes from",
        config="ReportConfig",
        function="embodied.reporting.report:report",
        example="runs/quickstart",
        renders=False,
        word="run",
    ),
    "doctor": Verb(
        summary="what this machine offers, and what to do about each problem",
        config="DoctorConfig",
        function="embodied.doctor:doctor",
        example="--json=doctor.json",
        renders=False,
    ),
}
BENCHES = {
    "envs": Verb(
        summary="image observations per second, against LeRobot's own Meta-World environment",
        config="BenchConfig",
        function="embodied.benchmarks.envs:bench_envs",
        example="--json=results/bench_envs.json",
    ),
    "loader": Verb(
        summary="training samples per second, against LeRobotDataset with the same windows",
        config="BenchConfig",
        function="embodied.benchmarks.loader:bench_loader",
        example="--json=results/bench_loader.json",
    ),
    "infer": Verb(
        summary="milliseconds per chunk in every mode, against LeRobot's ACT at the same picture size",
        config="BenchConfig",
        function="embodied.benchmarks.infer:bench_infer",
        example="--json=results/bench_infer.json",
        renders=False,
    ),
    "runtimes": Verb(
        summary="milliseconds per chunk, eager, compiled, as ONNX and as CUDA graphs",
        config="BenchConfig",
        function="embodied.benchmarks.runtimes:bench_runtimes",
        example="--json=results/bench_runtimes.json",
        renders=False,
    ),
    "train": Verb(
        summary="training samples per second, against LeRobot's ACT as it is and as large as our policy",
        config="BenchConfig",
        function="embodied.benchmarks.train:bench_train",
        example="--json=results/bench_train.json",
        renders=False,
    ),
    "plan": Verb(
        summary="milliseconds per chunk in mode plan, against how many chunks it chooses among",
        config="BenchConfig",
        function="embodied.benchmarks.plan:bench_plan",
        example="--json=results/bench_plan.json",
        renders=False,
    ),
    "growth": Verb(
        summary="milliseconds per decision as pictures, cameras, chunk, batch and depth grow",
        config="BenchConfig",
        function="embodied.benchmarks.growth:bench_growth",
        example="--json=results/bench_growth.json",
        renders=False,
    ),
    "evaluate": Verb(
        summary="evaluation episodes per minute, against lerobot-eval with the same checkpoint and seeds",
        config="BenchConfig",
        function="embodied.benchmarks.evaluate:bench_evaluate",
        example="--json=results/bench_evaluate.json",
    ),
}
COMMANDS = VERBS | {f"bench {what}": verb for what, verb in BENCHES.items()}
