import pytest

from embodied.evaluation.necessity import necessity, outcomes


def test_the_expert_succeeds_and_all_who_lack_the_information_fail() -> None:
    found = {arm: outcomes(("reach-cube", arm, range(5))) for arm in ("expert", "blind", "random", "no-op")}
    assert found == {"expert": "11111", "blind": "00000", "random": "00000", "no-op": "00000"}


@pytest.mark.slow
def test_a_table_has_a_line_per_task_with_an_interval_beside_each_rate() -> None:
    result = necessity(["reach-cube"], [3, 4])
    assert result["columns"][:3] == ["task", "expert", "95 % interval"]
    assert result["rows"] == [["reach-cube", "100 %", "34 to 100 %", *["0 %", "0 to 66 %"] * 3]]
    assert result["outcomes"]["reach-cube expert"] == "11"
