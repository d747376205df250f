"""Batches on their way to the model."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from embodied.data.augment import AUGMENTATIONS
from embodied.training.feed import Ahead, Feed


class Counter:
    """Batch k holds k in every pixel; batch `broken` cannot be read."""

    def __init__(self, cursor: int = 0, broken: int = -1) -> None:
        self.cursor, self.broken = cursor, broken

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            if self.cursor == self.broken:
                raise OSError("disk gone")
            pixels = torch.full((1, 3, 2, 2), self.cursor, dtype=torch.uint8)
            self.cursor += 1
            yield {"observation.images.corner": pixels, "task": ["reach"]}

    def state(self) -> dict[str, int]:
        return {"seed": 5, "cursor": self.cursor}


def feed_from(cursor: int, augmentation: str) -> Feed:
    return Feed(
        Counter(cursor), device=torch.device("cpu"), augmentation=augmentation, preprocess=lambda batch: batch
    )


def test_fetching_ahead_gives_each_batch_with_the_state_right_after_it() -> None:
    """The loader itself has run on by then."""
    loader = Counter()
    ahead = Ahead(loader, pin=False)
    stream = iter(ahead)
    taken = [next(stream) for _ in range(5)]
    while loader.cursor <= 5:  # the thread fetches on by itself; the test's timeout ends one that does not
        time.sleep(0.01)
    ahead.close()
    assert [int(batch["observation.images.corner"].max()) for batch, _ in taken] == [0, 1, 2, 3, 4]
    assert [state["cursor"] for _, state in taken] == [1, 2, 3, 4, 5]


def test_an_error_while_fetching_ahead_is_raised_where_the_batch_is_used() -> None:
    """Batches before the unreadable one are delivered."""
    ahead = Ahead(Counter(broken=1), pin=False)
    stream = iter(ahead)
    next(stream)
    with pytest.raises(OSError, match="disk gone"):
        next(stream)
    ahead.close()


def test_pictures_arrive_in_unit_range_and_text_as_it_is() -> None:
    """51 of 255 is a fifth."""
    batch = feed_from(51, "none").next()
    torch.testing.assert_close(batch["observation.images.corner"], torch.full((1, 3, 2, 2), 0.2))
    assert batch["task"] == ["reach"]


def test_augmentation_is_a_function_of_the_place_in_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that starts at batch 1 draws what the first feed drew there, whatever torch's own one does."""
    monkeypatch.setitem(AUGMENTATIONS, "draw", lambda images, generator: torch.rand(1, generator=generator))
    first = feed_from(0, "draw")
    drawn = [first.next()["observation.images.corner"] for _ in range(2)]
    torch.rand(7)
    assert torch.equal(feed_from(1, "draw").next()["observation.images.corner"], drawn[1])
    assert not torch.equal(drawn[0], drawn[1])
