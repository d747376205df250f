import pytest

from embodied.benchmarks.serving import most_clients


@pytest.mark.parametrize(
    ("held", "limit", "found", "tried"),
    [
        (11, 256, 11, [1, 2, 4, 8, 16, 12, 10, 11]),
        (0, 256, 0, [1]),
        (1, 256, 1, [1, 2]),
        (99, 10, 10, [1, 2, 4, 8, 10]),
    ],
)
def test_it_doubles_until_it_is_too_much_and_then_bisects(
    held: int, limit: int, found: int, tried: list[int]
) -> None:
    asked: list[int] = []

    def holds(clients: int) -> bool:
        asked.append(clients)
        return clients <= held

    assert most_clients(holds, limit=limit) == found
    assert asked == tried
