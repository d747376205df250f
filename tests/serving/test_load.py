from pathlib import Path

import pytest
import trustme

from embodied.errors import UserError
from embodied.serving.inference import Target
from embodied.serving.load import NEIGHBOURS, Credentials, Load, Measured, measure, served
from embodied.serving.specification import to_plain
from tests.serving.specifications import POLICY


def test_a_summary_counts_the_late_as_a_period() -> None:
    measured = Measured(latencies=[0.01] * 98 + [0.1] * 2, late=2)
    summary = measured.summary()
    assert summary["requests"] == 100
    assert summary["p50_ms"] == pytest.approx(10.0)
    assert summary["p99_ms"] == pytest.approx(100.0)
    assert summary["late_share"] == 0.02


STILL = Target(
    function="embodied.serving.runners:holding_still_as", arguments={"specification": to_plain(POLICY)}
)


@pytest.fixture
def files(tmp_path: Path) -> Credentials:
    files = Credentials.within(tmp_path)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(files.authority)
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(files.certificate)
    files.token.write_text("a token of sufficient length")
    return files


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_every_robot_asks_at_its_rate_beside_any_neighbour(files: Credentials, neighbour: str) -> None:
    load = Load(clients=3, hz=5.0, seconds=0.8, warm_up=0.2)
    with served(STILL, files) as (url, _):
        measured = measure(url, POLICY, files, load, beside=neighbour)
    assert measured.summary()["requests"] == 3 * 4
    assert min(measured.latencies) > 0
    assert measured.late < 12


def test_what_a_robot_cannot_ask_is_late(files: Credentials) -> None:
    load = Load(clients=2, hz=5.0, seconds=0.8, warm_up=0.2)
    with served(STILL, files) as (url, _):
        pass
    summary = measure(url, POLICY, files, load).summary()
    assert summary["requests"] == 8
    assert summary["late_share"] == 1.0


def test_a_policy_that_cannot_be_loaded_is_bad_input(files: Credentials) -> None:
    missing = Target(function="embodied.serving.runners:holding_still", arguments={"path": "/nowhere"})
    with pytest.raises(UserError, match="the policy cannot be served"), served(missing, files):
        pass
