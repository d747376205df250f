import asyncio
from pathlib import Path

import pytest
import trustme

from embodied.serving.load import NEIGHBOURS, Credentials, Load, Measured, drive, served
from tests.embodied.serving.specifications import POLICY


def test_a_summary_counts_the_late_as_a_period() -> None:
    measured = Measured(latencies=[0.01] * 98 + [0.1] * 2, late=2)
    summary = measured.summary()
    assert summary["requests"] == 100
    assert summary["p50_ms"] == pytest.approx(10.0)
    assert summary["p99_ms"] == pytest.approx(100.0)
    assert summary["late_share"] == 0.02


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_every_robot_asks_at_its_rate_beside_any_neighbour(tmp_path: Path, neighbour: str) -> None:
    files = Credentials.within(tmp_path)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(files.authority)
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(files.certificate)
    files.token.write_text("a token of sufficient length")
    load = Load(clients=3, hz=5.0, seconds=0.8, warm_up=0.2)
    with served(POLICY, files) as url:
        measured = asyncio.run(drive(url, POLICY, files, load, beside=neighbour))
    assert measured.summary()["requests"] == 3 * 4
    assert min(measured.latencies) > 0
    assert measured.late < 12
