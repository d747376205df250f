"""The trials of `scripts/kill_training.py` and `scripts/corrupt_checkpoint.py`, on a small scale."""

import random
from collections import Counter
from pathlib import Path

import pytest

from embodied.config import TrainConfig
from embodied.flags import parse_flags
from embodied.training import trials
from embodied.training.loop import train
from embodied.training.trials import damaged, flags, loaders, outcome, refused, train_through_kills


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_and_resumed_trainings_end_like_the_one_left_alone(dataset_root: Path, tmp_path: Path) -> None:
    """Three real processes and SIGKILL; the script does 20 of them."""
    trials.train_until(tmp_path / "alone", dataset_root)
    expected = outcome(tmp_path / "alone")
    assert [row["step"] for row in expected["rows"]] == [*range(2, 46, 2), 45]
    assert expected["kept"] == ["000042", "000045", "last"]
    draw = random.Random(1)
    for number in range(3):
        run = tmp_path / str(number)
        train_through_kills(run, dataset_root, draw, seconds=15)
        assert outcome(run) == expected


def test_every_loader_refuses_every_damage_and_names_the_file(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty of the script's cases; undamaged, every loader takes the checkpoint."""
    monkeypatch.setattr(trials, "STEPS", 2)
    run, draw = tmp_path / "run", random.Random(2)
    folder = Path(train(parse_flags(TrainConfig, flags(dataset_root, run)))["checkpoint"])
    load = loaders(run, dataset_root)
    kinds, refusals = Counter(), Counter()
    for _ in range(40):
        with damaged(folder, draw) as (kind, path):
            kinds[kind] += 1
            refusals.update(name for name in load if refused(load[name], path))
    assert refusals == dict.fromkeys(load, 40)
    assert kinds.keys() == {"flipped bit", "truncation", "deleted file", "added file"}
    assert not any(refused(load[name], folder) for name in load)
