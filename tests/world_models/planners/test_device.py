"""The search on a world model: on CUDA it never waits for the device; bf16 and compiled it finds the same."""

import pytest
import torch

from world_models.costs import foresee, goal_distance
from world_models.dynamics import LatentDynamics
from world_models.planners import PLANNERS, PlannerConfig, Start, draw_noise, make_planner

CONFIG = PlannerConfig(candidates=32, iterations=3, elites=8)
CHUNKS = (2, 4, 3)


def problem(device: str):
    """A search's start and noise, and a cost that foresees, on `device`."""
    torch.manual_seed(0)
    model = LatentDynamics(
        tokens=4, dim=32, history=1, chunk_steps=4, action_dim=3, depth=2, heads=2
    ).requires_grad_(False)
    torch.nn.init.normal_(model.change.weight, std=0.1)  # it starts as one in which nothing moves
    model = model.to(device)
    history, goal = (torch.randn(2, 1, 4, 32).to(device) for _ in range(2))

    def cost(candidates):
        return goal_distance(foresee(model, history, candidates), goal)

    bound = torch.full((3,), 2.0).to(device)
    zeros = torch.zeros(2, *CHUNKS).to(device)
    start = Start(mean=zeros, std=torch.ones_like(zeros), low=-bound, high=bound)
    generators = [torch.Generator(device).manual_seed(seed) for seed in (1, 2)]
    return cost, start, generators


@pytest.mark.parametrize("name", PLANNERS)
def test_a_search_in_bf16_ends_near_one_in_full_precision(name):
    check_bf16("cpu", name)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANNERS)
def test_a_search_is_one_graph_that_finds_the_same(name):
    """Traced and differentiated as for any compiler; the compiler itself takes minutes on a CPU."""
    check_compiled("cpu", name, backend="aot_eager")


@pytest.mark.gpu
@pytest.mark.parametrize("name", PLANNERS)
def test_on_cuda_the_search_never_waits_for_the_device(name):
    cost, start, generators = problem("cuda")
    planner = make_planner(name, CONFIG)
    shape = (planner.rounds, CONFIG.candidates, *CHUNKS)
    planner.plan(cost, start, draw_noise(generators, shape))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        plan = planner.plan(cost, start, draw_noise(generators, shape))
        with torch.autocast("cuda", torch.bfloat16):
            planner.plan(cost, start, draw_noise(generators, shape))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert plan.cost.isfinite().all()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")
@pytest.mark.parametrize("name", PLANNERS)
def test_on_cuda_bf16_and_compiled_searches_find_the_same(name):
    check_bf16("cuda", name)
    check_compiled("cuda", name, backend="inductor")


def check_bf16(device: str, name: str):
    cost, start, generators = problem(device)
    planner = make_planner(name, CONFIG)
    noise = draw_noise(generators, (planner.rounds, CONFIG.candidates, *CHUNKS))
    full = planner.plan(cost, start, noise)
    with torch.autocast(device, torch.bfloat16):
        half = planner.plan(cost, start, noise)
    assert half.actions.dtype == torch.float32
    assert torch.allclose(cost(half.actions[:, None])[:, 0], full.cost, rtol=0.02)


def check_compiled(device: str, name: str, backend: str):
    cost, start, generators = problem(device)
    planner = make_planner(name, CONFIG)
    noise = draw_noise(generators, (planner.rounds, CONFIG.candidates, *CHUNKS))
    eager = planner.plan(cost, start, noise)
    compiled = torch.compile(planner.plan, fullgraph=True, backend=backend)(cost, start, noise)
    assert torch.allclose(compiled.cost, eager.cost, rtol=1e-3)
