"""Planners: search for the action chunks whose foreseen outcome costs least."""

from collections.abc import Callable

from world_models.planners.gradient import GradientPlanner
from world_models.planners.interface import Cost, Plan, Planner, PlannerConfig, Start, draw_noise, shift
from world_models.planners.sampling import cem, icem, mppi

__all__ = [
    "PLANNERS",
    "Cost",
    "Plan",
    "Planner",
    "PlannerConfig",
    "Start",
    "draw_noise",
    "make_planner",
    "shift",
]

PLANNERS: dict[str, Callable[[PlannerConfig], Planner]] = {
    "cem": cem,
    "icem": icem,
    "mppi": mppi,
    "gradient": lambda config: GradientPlanner(config=config),
}


def make_planner(name: str, config: PlannerConfig) -> Planner:
    """The planner of that name in `PLANNERS`; ValueError with the valid names for any other."""
    if name not in PLANNERS:
        raise ValueError(f"planner={name}: expected one of {', '.join(PLANNERS)}")
    return PLANNERS[name](config)
