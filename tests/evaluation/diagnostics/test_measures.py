import numpy as np
import pytest

from embodied.evaluation.diagnostics.measures import auroc, bootstrap, r_squared, ranks, spearman


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks(np.array([10.0, 30.0, 20.0, 20.0])).tolist() == [1.0, 4.0, 2.5, 2.5]


def test_spearman_sees_order_and_nothing_else() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(values, np.exp(values)) == pytest.approx(1.0)
    assert spearman(values, -(values**3)) == pytest.approx(-1.0)
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15).
    assert spearman(values, np.array([2.0, 1.0, 4.0, 3.0])) == pytest.approx(0.6)


def test_spearman_of_a_constant_is_undefined() -> None:
    assert np.isnan(spearman(np.arange(4.0), np.ones(4)))


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    # Of the pairs (3, 1), (3, 2), (3, 4), (2, 1), (2, 2), (2, 4) three are right and one is a tie.
    assert auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0, 4.0])) == pytest.approx(3.5 / 6)
    assert auroc(np.array([5.0]), np.array([1.0, 2.0])) == 1.0


def test_auroc_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="0 positives and 2 negatives"):
        auroc(np.empty(0), np.ones(2))


def test_r_squared_per_coordinate() -> None:
    target = np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 5.0]])
    predicted = np.array([[0.0, 2.0, 5.0], [2.0, 2.0, 5.0]])
    scores = r_squared(target, predicted)
    assert scores[:2].tolist() == [1.0, 0.0]
    assert np.isnan(scores[2])


def test_the_bootstrap_of_equal_units_has_no_width_and_that_of_others_has() -> None:
    same, other = np.full(20, 3.0), np.arange(20.0)
    assert [float(end) for end in bootstrap(lambda chosen: same[chosen].mean(), 20, seed=0)] == [3.0, 3.0]
    low, high = bootstrap(lambda chosen: other[chosen].mean(), 20, seed=0)
    # The mean of 20 draws from 0 to 19 has a standard deviation of 5.77 / sqrt(20) = 1.29.
    assert high - low == pytest.approx(2 * 1.96 * 1.29, rel=0.1)
