"""Who may connect: anybody on this machine, elsewhere who has the token, over TLS only."""

import hmac
import ipaddress
import ssl
from pathlib import Path

from websockets.datastructures import Headers

from embodied.errors import UserError

LEAST_TOKEN = 16
SCHEMES = ("Bearer", "Api-Key")
"""What may stand before the token; the second is openpi's."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, *, has_tls: bool, has_token: bool) -> None:
    """Raise UserError if a server on `host` would be open to others without TLS or without a token."""
    if not is_loopback(host) and not (has_tls and has_token):
        raise UserError(
            f"--host={host}: others can reach it: expected --tls_cert, --tls_key and --token_file as well, "
            "or --host=127.0.0.1"
        )


def read_token(path: Path) -> str:
    """The token in a file, which only its owner should be able to read; UserError if it is none."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token_file={path}: expected a file with a token in ASCII") from error
    if len(token) < LEAST_TOKEN:
        raise UserError(f"--token_file={path}: {len(token)} characters: expected at least {LEAST_TOKEN}")
    return token


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or later with a certificate chain and its key; UserError naming what cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise UserError(
            f"--tls_cert={certificate} --tls_key={key}: expected a certificate and its key"
        ) from error
    return context


def has_token(headers: Headers, token: str) -> bool:
    """Whether a request carries the token, compared in a time that does not tell how much of it is right."""
    given = headers.get_all("Authorization")
    offered = given[0] if len(given) == 1 else ""
    expected = [f"{scheme} {token}".encode() for scheme in SCHEMES]
    matches = [hmac.compare_digest(offered.encode(errors="replace"), text) for text in expected]
    return any(matches)
