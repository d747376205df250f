"""The README's table of what world models know."""

import pytest

from embodied.reporting.insights import insight_lines


def test_every_figure_has_its_floor_beside_it() -> None:
    rollout = {"horizons": [{"steps": 12, "skill": 0.75}, {"steps": 24, "skill": 0.5}]}
    probe = {"landmark": "object", "r2": 0.9, "floor": 0.6}
    goal = {"task": "reach", "success_rate": 0.9, "low": 0.7, "high": 0.97, "floors": {"random": 0.05}}
    (_, *lines) = insight_lines(
        [
            {"diagnostics": {"rollout": rollout}},
            {
                "diagnostics": {
                    "probes": {"summary": [probe | {"probe": "ridge"}, probe | {"probe": "mlp"}]},
                    "goals": {"tasks": [goal], "decision_ms": {"p50": 49.6}},
                },
                "env": {"width": 96},
                "command": "embodied evaluate --planning=begin=inverse,n_action_steps=4 --goals=9",
            },
        ]
    )
    assert lines == [
        [
            "forecast of 12 to 24 steps without a look",
            "25 % to 50 % of the error of a world that stands still",
            "100 %",
        ],
        ["R² of a linear probe: object", "0.90", "untrained encoder 0.60"],
        [
            "gets to a goal picture in twice the expert's steps: reach, 96 px, by inverse dynamics, "
            "a look every 4 steps",
            "90 % (70 to 97 %), 50 ms per decision",
            "random actions 5 %",
        ],
    ]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("", "by search"),
        ("--planning=planner=icem", "by search"),
        ("--planning=begin=inverse,iterations=1", "by inverse dynamics alone"),
    ],
)
def test_how_was_planned_is_told_by_the_command(flag: str, said: str) -> None:
    goal = {"task": "push", "success_rate": 0.5, "low": 0.4, "high": 0.6, "floors": {"random": 0.0}}
    found = {"goals": {"tasks": [goal], "decision_ms": {"p50": 5.0}}}
    result = {"diagnostics": found, "env": {"width": 64}, "command": f"embodied evaluate {flag}"}
    assert insight_lines([result])[1][0].endswith(f"push, 64 px, {said}")


def test_ranking_and_surprise_stand_beside_what_sees_less() -> None:
    ranking = {"candidates": 64, "spearman": 0.635, "low": 0.5, "high": 0.7}
    edit = {"edit": "displaced", "auroc": 0.862, "low": 0.83, "high": 0.89, "floors": {"pixels": 0.7}}
    (_, *lines) = insight_lines(
        [
            {
                "diagnostics": {
                    "ranking": {**ranking, "floors": {"chunk_and_state_mlp": 0.6}},
                    "surprise": {"edits": [edit | {"task": "all"}, edit | {"task": "reach"}]},
                }
            }
        ]
    )
    assert lines == [
        [
            "rank correlation of foreseen and true outcome, 64 chunks",
            "0.64 (0.50 to 0.70)",
            "from chunk and state, no picture 0.60",
        ],
        [
            "AUROC of noticing that the object was displaced",
            "0.86 (0.83 to 0.89)",
            "change of the pictures 0.70",
        ],
    ]
