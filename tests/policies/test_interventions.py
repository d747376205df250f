"""What takes the place of an imagined plan, with answers known by hand."""

import pytest
import torch

from policies.latent_vla.interventions import CALIBRATED, Calibration, Imagined, draw_of, replace_plan
from policies.latent_vla.tokenizer import byte_tokenizer

PLANS = torch.stack([torch.full((2, 3, 4), value) for value in (1.0, 2.0, 6.0)])
TOLD = ("go east", "go north", "stay")


def read(instructions: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    found = byte_tokenizer()(list(instructions), padding="longest", return_tensors="pt")
    return found["input_ids"], found["attention_mask"].bool()


def calibration(instructions: tuple[str, ...] = TOLD) -> Calibration:
    tokens, mask = read(instructions)
    return Calibration(plans=PLANS, tokens=tokens, mask=mask)


def imagined(draw: list[float], instruction: str = "stay", **changes) -> Imagined:
    """Plans of random numbers; another instruction's plan is its last letter everywhere."""
    tokens, mask = read((instruction,) * len(draw))
    generator = torch.Generator().manual_seed(0)

    def imagine(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        last = tokens.gather(1, mask.sum(1, keepdim=True) - 2)
        return last[:, :, None, None].float().expand(-1, 2, 3, 4)

    parts = {
        "plan": torch.randn(len(draw), 2, 3, 4, generator=generator) * 5 + 1,
        "tokens": tokens,
        "mask": mask,
        "draw": torch.tensor(draw),
        "imagine": imagine,
    }
    return Imagined(**(parts | changes))


def told(plan: torch.Tensor) -> list[str]:
    """The instructions that `imagine` above made a plan of: each ends in another letter."""
    tokens, mask = read(TOLD)
    last = tokens.gather(1, mask.sum(1, keepdim=True) - 2)[:, 0].tolist()
    return [TOLD[last.index(int(row.flatten()[0]))] for row in plan]


def test_none_leaves_the_plan() -> None:
    given = imagined([0.5, 0.5])
    assert replace_plan("none", given, None) is given.plan


def test_mean_is_the_calibrations() -> None:
    assert torch.equal(
        replace_plan("mean", imagined([0.1, 0.9]), calibration()), torch.full((2, 2, 3, 4), 3.0)
    )


def test_the_draw_says_which_other_episode() -> None:
    plan = replace_plan("other_episode", imagined([0.0, 0.34, 0.7, 1.0]), calibration())
    assert plan[:, 0, 0, 0].tolist() == [1, 2, 6, 6]


def test_noise_has_the_plans_own_mean_and_deviation() -> None:
    wide = imagined(
        [0.3, 0.8], plan=torch.randn(2, 40, 30, 20) * torch.tensor([3.0, 0.1])[:, None, None, None]
    )
    plan = replace_plan("noise", wide, None)
    for row, own in zip(plan, wide.plan, strict=True):
        assert row.mean().item() == pytest.approx(own.mean().item(), abs=0.03 * own.std().item())
        assert row.std().item() == pytest.approx(own.std().item(), rel=0.02)
    assert torch.corrcoef(torch.stack([plan[0].flatten(), wide.plan[0].flatten()]))[0, 1].abs() < 0.03
    assert torch.equal(plan, replace_plan("noise", wide, None))


@pytest.mark.parametrize(
    ("own", "others"), [("go east", ["go north", "stay"]), ("stay", ["go east", "go north"])]
)
def test_another_instruction_is_each_of_the_others_and_never_its_own(own: str, others: list[str]) -> None:
    plan = replace_plan("other_instruction", imagined([0.1, 0.9], own), calibration())
    assert told(plan) == others


@pytest.mark.parametrize("name", ["noise", "other_episode", "other_instruction"])
def test_a_decisions_replacement_does_not_depend_on_the_batch(name: str) -> None:
    whole = imagined([0.1, 0.5, 0.8])
    parts = {key: value[1:2] for key, value in vars(whole).items() if key != "imagine"}
    alone = Imagined(**parts, imagine=whole.imagine)
    together = replace_plan(name, whole, calibration())[1:2]
    assert torch.equal(replace_plan(name, alone, calibration()), together)


@pytest.mark.parametrize("name", CALIBRATED)
def test_a_missing_calibration_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=f"intervention={name}: expected a calibration"):
        replace_plan(name, imagined([0.5]), None)


def test_one_instruction_has_no_other() -> None:
    with pytest.raises(ValueError, match="two instructions or more, found 1"):
        replace_plan("other_instruction", imagined([0.5]), calibration(("stay",)))


def test_draws_are_uniform() -> None:
    draws = draw_of(torch.randn(20_000, 2, 3, generator=torch.Generator().manual_seed(0)))
    assert torch.histc(draws, bins=4, min=0, max=1).tolist() == pytest.approx([5000] * 4, rel=0.05)


# --- inside the policy ----------------------------------------------------------------------------

IMAGINES = {"imagination": "latent", "world_model": True, "mode": "imagine", "temperature": 1.0}
SIZES = {"dynamics_depth": 1, "dynamics_heads": 2}


def test_mean_makes_the_chunk_blind_to_the_instruction(make_policy, make_batch) -> None:
    """Scene and noise alike, the instruction reaches the action head through the plan alone."""
    policy, batch = make_policy(**IMAGINES, **SIZES), make_batch()
    for key, value in batch.items():
        if "language" not in key:
            batch[key] = value[:1].expand_as(value)
    noise = torch.randn(1, 12, 4).expand(2, -1, -1)
    usual = policy.predict_action_chunk(batch, noise=noise)
    assert not torch.allclose(usual[0], usual[1], atol=1e-6)
    tokens, mask = batch["observation.language.tokens"], batch["observation.language.attention_mask"]
    policy.calibration = Calibration(plans=policy.imagine(batch), tokens=tokens, mask=mask)
    policy.config.intervention = "mean"
    blind = policy.predict_action_chunk(batch, noise=noise)
    torch.testing.assert_close(blind[0], blind[1])


def test_another_instructions_plan_is_the_chunk_of_that_instruction(make_policy, make_batch) -> None:
    """There are two: to swap the text gives what to swap the plan gives, since it is not read beside."""
    policy, batch = make_policy(**IMAGINES, **SIZES), make_batch()
    tokens, mask = batch["observation.language.tokens"], batch["observation.language.attention_mask"]
    noise = torch.randn(2, 12, 4)
    swapped = {**batch, "observation.language.tokens": tokens.flip(0)}
    swapped["observation.language.attention_mask"] = mask.flip(0)
    expected = policy.predict_action_chunk(swapped, noise=noise)
    policy.calibration = Calibration(plans=policy.imagine(batch), tokens=tokens, mask=mask)
    policy.config.intervention = "other_instruction"
    torch.testing.assert_close(policy.predict_action_chunk(batch, noise=noise), expected)


def test_plan_mode_intervenes_where_imagination_counts(make_policy, make_batch, monkeypatch) -> None:
    settings = {**IMAGINES, **SIZES, "mode": "plan", "candidates": 8, "reward_weight": 0.0}
    policy = make_policy(**settings, imagination_distance_weight=1.0)
    batch, noise = make_batch(), torch.randn(2, 8, 12, 4)
    tokens, mask = batch["observation.language.tokens"], batch["observation.language.attention_mask"]
    plans = torch.arange(2.0)[None, :, None, None].expand(1, 2, 3, 32) + 5
    policy.calibration = Calibration(plans=plans, tokens=tokens, mask=mask)
    policy.config.intervention = "mean"
    wanted = []
    score = policy.foresight.score

    def noted(*given, imagined=None, **more):
        wanted.append(imagined)
        return score(*given, imagined=imagined, **more)

    monkeypatch.setattr(policy.foresight, "score", noted)
    policy.predict_action_chunk(batch, noise=noise)
    assert torch.equal(wanted[0], torch.full((2, 3, 32), 5.0))  # the first imagined scene


def test_a_plan_is_imagined_whatever_the_mode_and_leaves_no_trace(make_policy, make_batch) -> None:
    policy, batch = make_policy(**{**IMAGINES, "mode": "reactive", "n_obs_steps": 2}, **SIZES), make_batch()
    assert policy.imagine(batch).shape == (2, 2, 3, 32)
    assert policy.recollection is None


def test_a_policy_without_imagination_cannot_imagine(make_policy, make_batch) -> None:
    with pytest.raises(ValueError, match=r"policy\.imagination=none: expected one that imagines"):
        make_policy().imagine(make_batch())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"intervention": "swap"}, "policy.intervention=swap: expected one of none, mean"),
        ({"intervention": "mean"}, "policy.intervention=mean: expected --policy.mode=imagine"),
        (
            {**IMAGINES, "mode": "plan", "intervention": "mean"},
            "policy.intervention=mean: expected --policy.mode=imagine, or plan with",
        ),
    ],
)
def test_an_intervention_on_what_is_not_imagined_is_refused(make_config, overrides, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**SIZES, **overrides)
