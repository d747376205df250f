from pathlib import Path

import pytest
from websockets.datastructures import Headers

from embodied.errors import UserError
from embodied.serving.access import check_exposure, has_token, is_loopback, read_token, server_context

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_alone_needs_nothing(host: str) -> None:
    assert is_loopback(host)
    check_exposure(host, has_tls=False, has_token=False)


@pytest.mark.parametrize("host", ["192.168.1.5", "example.org", "", "localhost.example.org", "::2"])
@pytest.mark.parametrize(("has_tls", "has_token"), [(False, False), (True, False), (False, True)])
def test_others_need_tls_and_a_token(host: str, has_tls: bool, has_token: bool) -> None:
    check_exposure(host, has_tls=True, has_token=True)
    with pytest.raises(UserError, match="others can reach it"):
        check_exposure(host, has_tls=has_tls, has_token=has_token)


@pytest.mark.parametrize(
    ("values", "passes"),
    [
        ([f"Bearer {TOKEN}"], True),
        ([f"Api-Key {TOKEN}"], True),
        ([TOKEN], False),
        ([f"bearer {TOKEN}"], False),
        ([f"Bearer {TOKEN}x"], False),
        (["Bearer "], False),
        (["Bearer é"], False),
        ([f"Bearer {TOKEN}", f"Bearer {TOKEN}"], False),
        ([], False),
    ],
)
def test_only_the_whole_token_passes(values: list[str], passes: bool) -> None:
    assert has_token(Headers([("Authorization", value) for value in values]), TOKEN) == passes


def test_a_token_comes_from_a_file_and_is_not_short(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file) == TOKEN
    file.write_text("short")
    with pytest.raises(UserError, match="5 characters: expected at least 16"):
        read_token(file)
    with pytest.raises(UserError, match="expected a file with a token"):
        read_token(tmp_path / "none")


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no certificate")
    with pytest.raises(UserError, match="expected a certificate and its key"):
        server_context(tmp_path / "a", tmp_path / "a")
