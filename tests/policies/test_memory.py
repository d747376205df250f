"""The bank by hand-made vectors, and a policy that must remember what it saw at its first look."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from policies.latent_vla.memory import (
    IS_DECIDED,
    IS_FIRST,
    Bank,
    EpisodeMemory,
    empty_bank,
    start_afresh,
    write,
)
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.subgoals import SUBGOAL
from tests.policies.sentences import give_meanings, give_words

WINDOW = 3
EPISODES = 8
CPU = torch.device("cpu")


def bank_of(tokens: list[list[float]], capacity: int) -> Bank:
    """One episode's bank after writing these tokens in turn."""
    bank = empty_bank(1, capacity, len(tokens[0]), CPU)
    for token in tokens:
        bank = write(bank, torch.tensor([token]))
    return bank


def test_looks_are_appended_with_their_times() -> None:
    bank = bank_of([[1.0, 0.0], [0.0, 2.0]], capacity=3)
    assert bank.tokens.tolist() == [[[1, 0], [0, 2], [0, 0]]]
    assert bank.times.tolist() == [[0, 1, 0]]
    assert bank.valid.tolist() == [[True, True, False]]


def test_a_full_bank_merges_the_neighbours_that_are_most_alike() -> None:
    """The second and the third point the same way; the first and the fourth do too, but are no neighbours."""
    bank = bank_of([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0], [5.0, 0.0]], capacity=3)
    assert bank.tokens.tolist() == [[[1, 0], [0, 2], [5, 0]]]
    assert bank.times.tolist() == [[0, 1.5, 3]]
    assert bank.looks.tolist() == [4]


def test_a_new_look_may_be_merged_with_the_last_one() -> None:
    bank = bank_of([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]], capacity=2)
    assert bank.tokens.tolist() == [[[1, 0], [0, 2]]]


def test_every_row_merges_its_own_neighbours() -> None:
    bank = empty_bank(2, 2, 2, CPU)
    looks = [[[1, 0], [1, 0]], [[3, 0], [0, 1]], [[0, 1], [0, 3]]]
    for look in looks:
        bank = write(bank, torch.tensor(look, dtype=torch.float32))
    assert bank.tokens.tolist() == [[[2, 0], [0, 1]], [[1, 0], [0, 2]]]


def test_only_rows_where_an_episode_begins_start_afresh() -> None:
    bank = write(empty_bank(2, 2, 1, CPU), torch.tensor([[4.0], [7.0]]))
    bank = write(start_afresh(bank, torch.tensor([True, False])), torch.tensor([[5.0], [-8.0]]))
    assert bank.tokens.tolist() == [[[5], [0]], [[7], [-8]]]
    assert bank.count.tolist() == [1, 2]
    assert bank.times.tolist() == [[0, 0], [0, 1]]


def test_an_empty_bank_leaves_the_scene_as_it_is() -> None:
    memory, scene = EpisodeMemory(capacity=4, window=2, dim=8, heads=2), torch.randn(3, 5, 8)
    assert torch.equal(memory.read(scene, empty_bank(3, 4, 8, CPU)), scene)


def test_empty_places_of_the_bank_say_nothing() -> None:
    memory, scene = EpisodeMemory(capacity=4, window=2, dim=8, heads=2), torch.randn(1, 5, 8)
    bank = write(empty_bank(1, 4, 8, CPU), torch.randn(1, 8))
    noisy = Bank(**{**vars(bank), "tokens": bank.tokens + 9 * ~bank.valid[..., None]})
    assert torch.equal(memory.read(scene, bank), memory.read(scene, noisy))


def test_entries_are_read_by_how_long_ago_they_were_written() -> None:
    """The same two looks, as the first of an episode and as the last of one whose others are gone."""
    memory, scene = EpisodeMemory(capacity=4, window=2, dim=8, heads=2), torch.randn(1, 5, 8)
    bank = write(write(empty_bank(1, 4, 8, CPU), torch.randn(1, 8)), torch.randn(1, 8))
    later = Bank(**{**vars(bank), "times": bank.times + 7, "looks": bank.looks + 7})
    torch.testing.assert_close(memory.read(scene, bank), memory.read(scene, later))
    older = Bank(**{**vars(bank), "looks": bank.looks + 7})
    assert not torch.allclose(memory.read(scene, bank), memory.read(scene, older))


# --- in the policy --------------------------------------------------------------------------------


@pytest.fixture
def make_episodes(make_batch: Callable) -> Callable[..., dict[str, Tensor]]:
    """Builds EPISODES windows: a cue of +1 or -1 in the state of the first look, and as the later actions.

    The first look's own actions are padding; grey pictures and the instruction tell nothing.
    """

    def make(seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        looks = EPISODES * WINDOW
        batch = make_batch(instructions=("act",) * looks, horizon=4)
        cue = torch.arange(EPISODES) % 2 * 2.0 - 1
        is_first = torch.arange(WINDOW).repeat(EPISODES) == 0
        state = torch.randn(looks, 4, generator=generator) / 4
        state[is_first, 0] = cue
        state[~is_first, 0] = 0
        pictures = {key: torch.full_like(batch[key], 0.5) for key in batch if "images" in key}
        return {
            **batch,
            **pictures,
            "observation.state": state,
            "action": cue.repeat_interleave(WINDOW)[:, None, None].expand(-1, 4, 4).contiguous(),
            "action_is_pad": is_first[:, None].expand(-1, 4),
            IS_FIRST: is_first,
        }

    return make


@pytest.fixture
def make_remembering(make_policy: Callable) -> Callable[..., LatentVLAPolicy]:
    """Builds a policy with a bank of two looks; keywords override its configuration."""

    def make(**overrides) -> LatentVLAPolicy:
        settings = {"chunk_size": 4, "n_action_steps": 4, "action_tokens": 2, "action_head": "regression"}
        settings |= {"depth": 1, "head_depth": 1}
        memory = {"memory_tokens": 2, "memory_window": WINDOW}
        return make_policy(**{**settings, **memory, **overrides})

    return make


def look_at(batch: dict[str, Tensor], look: int) -> dict[str, Tensor]:
    """One look of every window, as an observation at run time."""
    return {key: value[look::WINDOW] for key, value in batch.items() if key.startswith("observation.")}


def run(policy: LatentVLAPolicy, batch: dict[str, Tensor]) -> Tensor:
    """The chunks of all looks in turn, (B, W, H, A)."""
    policy.reset()
    noise = torch.zeros(EPISODES, *policy.config.noise_shape)
    chunks = [policy.predict_action_chunk(look_at(batch, look), noise=noise) for look in range(WINDOW)]
    return torch.stack(chunks, dim=1)


def error(policy: LatentVLAPolicy, batch: dict[str, Tensor]) -> float:
    """Mean distance of the later actions, decided in turn, from the cue: 1 is chance, as the cue is +-1."""
    chunks = run(policy, batch)[:, 1:]
    return (chunks - batch["action"].unflatten(0, (-1, WINDOW))[:, 1:]).abs().mean().item()


def learn(policy: LatentVLAPolicy, make_episodes: Callable, steps: int) -> None:
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    policy.train()
    for step in range(steps):
        optimizer.zero_grad()
        policy(make_episodes(step))[0].backward()
        optimizer.step()


def test_a_cue_of_the_first_look_is_acted_upon_later(
    make_remembering: Callable, make_episodes: Callable
) -> None:
    """Learnt with the bank; at chance when it is wiped; the opposite when it is the neighbour's."""
    policy, unseen = make_remembering(), make_episodes(1000)
    learn(policy, make_episodes, steps=50)
    assert error(policy, unseen) < 0.1
    policy.config.memory = "wiped"
    assert error(policy, unseen) > 0.8
    policy.config.memory = "swapped"
    assert error(policy, unseen) > 1.7


def test_without_a_bank_later_actions_stay_at_chance(
    make_remembering: Callable, make_episodes: Callable
) -> None:
    policy = make_remembering(memory_tokens=0, memory_window=0)
    learn(policy, make_episodes, steps=50)
    assert error(policy, make_episodes(1000)) > 0.8


@pytest.mark.parametrize("capacity", [1, 2, 8])
def test_looks_in_turn_equal_the_training_unroll(
    make_remembering: Callable, make_episodes: Callable, capacity: int
) -> None:
    policy, batch = make_remembering(memory_tokens=capacity), make_episodes(0)
    policy.eval()
    everywhere = {**batch, "action_is_pad": torch.zeros_like(batch["action_is_pad"])}
    in_turn = run(policy, batch)
    expected = (in_turn - batch["action"].unflatten(0, (-1, WINDOW))).abs().mean()
    assert policy(everywhere)[0].item() == pytest.approx(expected.item(), abs=1e-6)
    policy.config.memory = "wiped"
    assert not torch.allclose(run(policy, batch)[:, 1:], in_turn[:, 1:], atol=1e-4)


def test_windows_do_not_see_each_other(make_remembering: Callable, make_episodes: Callable) -> None:
    """What one window shows changes no scene of another."""
    policy, batch = make_remembering(), make_episodes(0)
    scenes = torch.randn(len(batch[IS_FIRST]), 4, 32)
    changed = scenes.clone()
    changed[0] += torch.randn(4, 32)
    same = (policy.memory.unroll(scenes, batch) == policy.memory.unroll(changed, batch)).all((1, 2))
    assert same.tolist() == [False, False, False] + [True] * (len(same) - 3)


def test_episodes_of_one_window_do_not_see_each_other(
    make_remembering: Callable, make_episodes: Callable
) -> None:
    """Where the second look is an episode's first, what the look before it showed changes it no more."""
    policy, batch = make_remembering(), make_episodes(0)
    batch[IS_FIRST] = batch[IS_FIRST].clone()
    batch[IS_FIRST][1] = True
    scenes = torch.randn(len(batch[IS_FIRST]), 4, 32)
    changed = scenes.clone()
    changed[0] += torch.randn(4, 32)
    same = (policy.memory.unroll(scenes, batch) == policy.memory.unroll(changed, batch)).all((1, 2))
    assert same.tolist() == [False] + [True] * (len(same) - 1)


def test_what_is_not_decided_is_still_remembered(make_remembering: Callable, make_episodes: Callable) -> None:
    """The loss is of the decided looks alone, and depends on the first one, which is not among them."""
    policy, batch = make_remembering(memory_decisions=1), make_episodes(0)
    batch["action_is_pad"] = torch.zeros_like(batch["action_is_pad"])
    is_decided = torch.arange(WINDOW).repeat(EPISODES) == 1
    loss = policy(batch | {IS_DECIDED: is_decided})[0]
    for look, counts in ((0, False), (1, True), (2, False)):
        changed = batch["action"].clone()
        changed[look::WINDOW] += 1
        again = policy(batch | {IS_DECIDED: is_decided, "action": changed})[0]
        assert torch.equal(again, loss) != counts
    state = batch["observation.state"].clone()
    state[::WINDOW] *= -1
    assert not torch.equal(policy(batch | {IS_DECIDED: is_decided, "observation.state": state})[0], loss)
    policy(batch | {IS_DECIDED: is_decided})[0].backward()
    assert policy.memory.summary_query.grad.abs().max() > 0


SAYING = {
    "mode": "imagine",
    "imagination": "inert",
    "imagine_subgoals": True,
    "imagined_steps": 1,
    "reactive_half": False,
    "subgoal_loss_weight": 0.0,
    "subgoals": ["go left", "go right"],
}


@pytest.fixture
def make_saying(make_remembering: Callable, make_episodes: Callable) -> Callable[..., LatentVLAPolicy]:
    """Builds a remembering policy whose plans say another sub-goal at another cue."""

    def make(**overrides) -> LatentVLAPolicy:
        policy = make_remembering(**{**SAYING, "memory_subgoals": True, **overrides}).eval()
        subgoals = policy.imagination.subgoals
        give_meanings(subgoals, torch.randn(2, policy.config.dim))
        thoughts: list[Tensor] = []
        hook = subgoals.norm.register_forward_hook(lambda _, __, states: thoughts.append(states.mean(1)))
        run(policy, make_episodes(1))
        hook.remove()
        # The words are the thoughts at the two cues, and each cue is nearest to its own.
        give_words(subgoals, torch.stack([thoughts[0][0::2].mean(0), thoughts[0][1::2].mean(0)]))
        return policy

    return make


def test_what_is_said_in_turn_is_remembered_as_what_is_told(
    make_saying: Callable, make_episodes: Callable
) -> None:
    """Told what it would have said by itself, the training unroll decides as looks in turn do."""
    policy, batch = make_saying(), make_episodes(0)
    noise, said, chunks = torch.zeros(EPISODES, 4, 4), [], []
    for look in range(WINDOW):
        here = look_at(batch, look)
        said.append([SAYING["subgoals"].index(step[0]) for step in policy.imagine_subgoals(here)])
        chunks.append(policy.predict_action_chunk(here, noise=noise))
    told = torch.tensor(said).T.flatten()
    assert len(told.unique()) > 1
    everywhere = {**batch, "action_is_pad": torch.zeros_like(batch["action_is_pad"])}
    expected = (torch.stack(chunks, 1) - batch["action"].unflatten(0, (-1, WINDOW))).abs().mean()
    assert policy(everywhere | {SUBGOAL: told[:, None]})[0].item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("remembers", [True, False])
def test_words_of_an_earlier_look_count_where_they_are_remembered(
    make_saying: Callable, make_episodes: Callable, remembers: bool
) -> None:
    policy, batch = make_saying(memory_subgoals=remembers, memory_decisions=1), make_episodes(0)
    batch["action_is_pad"] = torch.zeros_like(batch["action_is_pad"])
    batch[IS_DECIDED] = torch.arange(WINDOW).repeat(EPISODES) == 1
    told = torch.zeros(len(batch[IS_FIRST]), 1, dtype=torch.long)
    other = told.clone()
    other[::WINDOW] = 1
    losses = [policy(batch | {SUBGOAL: words})[0] for words in (told, other)]
    assert torch.equal(*losses) != remembers


def test_a_swapped_bank_is_what_the_other_would_have_remembered_by_itself(
    make_remembering: Callable, make_episodes: Callable
) -> None:
    """Else what is said would wander from bank to bank: each would read its own words every other look."""
    policy = make_remembering(**SAYING | {"memory_subgoals": True, "subgoal_loss_weight": 1.0})
    told = (torch.arange(EPISODES) % 2).repeat_interleave(WINDOW)[:, None]
    learn(policy, lambda seed: make_episodes(seed) | {SUBGOAL: told}, steps=50)
    unseen = make_episodes(1000)
    assert error(policy, unseen) < 0.2
    remembered = policy.recollection.bank.tokens
    policy.config.memory = "swapped"
    assert error(policy, unseen) > 1.7
    torch.testing.assert_close(policy.recollection.bank.tokens, remembered)


def test_words_are_remembered_only_where_they_are_said(make_remembering: Callable) -> None:
    with pytest.raises(ValueError, match=r"--policy\.memory_subgoals=true: expected --policy\.memory_tokens"):
        make_remembering(memory_subgoals=True)


def test_reset_forgets_the_episode(make_remembering: Callable, make_episodes: Callable) -> None:
    policy, batch = make_remembering(), make_episodes(0)
    assert torch.equal(run(policy, batch), run(policy, batch))


def test_save_and_load_remember_alike(
    make_remembering: Callable, make_episodes: Callable, tmp_path: Path
) -> None:
    policy, batch = make_remembering(), make_episodes(0)
    policy.save_pretrained(tmp_path)
    assert torch.equal(run(LatentVLAPolicy.from_pretrained(tmp_path), batch), run(policy, batch))


def test_memory_off_leaves_every_weight_as_it_was(make_policy: Callable) -> None:
    """Memory comes last: what is drawn for the rest of the network is the same with and without it."""
    plain = make_policy().state_dict()
    remembering = make_policy(memory_tokens=2, memory_window=WINDOW).state_dict()
    assert all(torch.equal(value, remembering[name]) for name, value in plain.items())
    assert {name.split(".")[0] for name in remembering.keys() - plain.keys()} == {"memory"}


def test_every_mode_remembers(make_remembering: Callable, make_episodes: Callable) -> None:
    """A plan depends on the looks before as well."""
    batch = make_episodes(0)
    for mode in ("imagine", "plan"):
        policy = make_remembering(mode=mode, world_model=True, imagination="latent", candidates=4)
        policy.eval()
        second = run(policy, batch)[:, 1]
        policy.config.memory = "wiped"
        assert not torch.allclose(second, run(policy, batch)[:, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"memory_tokens": -1}, "policy.memory_tokens=-1: expected at least 0"),
        ({"memory_tokens": 4}, "memory_tokens=4 --policy.memory_window=0: expected both or neither"),
        ({"memory_decisions": 1}, "memory_decisions=1: expected at most memory_window=0"),
        ({"memory": "half"}, "policy.memory=half: expected one of kept, wiped, swapped"),
        ({"memory": "wiped"}, "policy.memory=wiped: expected a policy with --policy.memory_tokens"),
    ],
)
def test_bad_configuration_names_the_value(make_config: Callable, overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**overrides)


def test_what_cannot_be_remembered_is_refused(make_remembering: Callable, make_episodes: Callable) -> None:
    policy, batch = make_remembering(), make_episodes(0)
    with pytest.raises(ValueError, match=r"expected observation\.is_first in a batch"):
        policy({key: value for key, value in batch.items() if key != IS_FIRST})
    with pytest.raises(ValueError, match="multiple of memory_window=3"):
        policy({key: value[:-1] for key, value in batch.items()})
    run(policy, batch)
    with pytest.raises(ValueError, match="memory of 8 episodes: expected as many scenes, found 1"):
        policy.predict_action_chunk({key: value[:1] for key, value in look_at(batch, 0).items()})
    policy.config.memory = "swapped"
    policy.reset()
    one = {key: value[:1] for key, value in look_at(batch, 0).items()}
    policy.predict_action_chunk(one)
    with pytest.raises(ValueError, match="expected two episodes or more at once, found 1"):
        policy.predict_action_chunk(one)
