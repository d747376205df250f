import os
import subprocess
import time
from pathlib import Path

import pytest
import trustme

from embodied.benchmarks.soak import growth, measured, soak
from embodied.errors import UserError
from embodied.serving.load import Credentials


def samples(values: list[float]) -> list[dict[str, float]]:
    """One a minute."""
    return [
        {"seconds": 60.0 * minute, "mb": value, "mapped_mb": 1.0, "descriptors": 7, "threads": 2}
        for minute, value in enumerate(values)
    ]


def test_a_straight_line_after_the_warm_up_is_found() -> None:
    """Ten minutes that do not count, then a tenth of a MB a minute."""
    lines = growth(samples([50 * (minute < 10) + 100 + 0.1 * minute for minute in range(61)]))
    assert lines["mb"]["per_hour"] == pytest.approx(6.0)
    assert lines["mb"]["low"] == pytest.approx(lines["mb"]["high"])
    assert lines["mb"]["grown"] == pytest.approx(5.0)
    assert (lines["mb"]["first"], lines["mb"]["last"]) == (101.0, 106.0)
    assert lines["descriptors"]["per_hour"] == pytest.approx(0.0)


def test_noise_widens_the_interval_and_does_not_move_it() -> None:
    lines = growth(samples([100 + (-1) ** minute for minute in range(61)]))
    assert lines["mb"]["low"] < 0 < lines["mb"]["high"]
    assert abs(lines["mb"]["per_hour"]) < 0.2


def test_of_two_samples_nothing_is_concluded() -> None:
    assert growth(samples([1.0, 2.0]))["mb"]["per_hour"] == 0.0


def test_this_process_is_measured_and_one_that_has_ended_is_not() -> None:
    now = measured(os.getpid())
    assert now["mb"] > 10
    assert now["mapped_mb"] > 1
    assert now["descriptors"] >= 3
    assert now["threads"] >= 1
    with subprocess.Popen(["true"]) as child:
        time.sleep(0.2)  # ended, and not yet waited for
        with pytest.raises(UserError, match="has ended"):
            measured(child.pid)


@pytest.mark.slow
@pytest.mark.render
def test_the_short_form_measures_all_three(tmp_path: Path) -> None:
    authority, files = trustme.CA(), Credentials.within(tmp_path)
    authority.cert_pem.write_to_path(files.authority)
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(files.certificate)
    files.token.write_text("a token of sufficient length")
    result = soak(files, policy=None, seconds=30.0, every=5.0, port=f"soak-{os.getpid()}")
    assert result["processes"].keys() == {"server", "inference", "control loop"}
    assert len(result["samples"]) == 6
    assert result["deaths"] == {}
    assert not result["interrupted"]
    assert result["processes"]["control loop"]["threads"]["last"] >= 2
