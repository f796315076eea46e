"""The certificate under https and wss."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from clmer_streaming.errors import SettingsError


@dataclass(frozen=True)
class Tls:
    """A certificate and its key, tried together."""

    cert: Path  # PEM, with the chain behind it
    key: Path  # PEM, without a password


def find_tls(cert: Path | None, key: Path | None) -> Tls | None:
    """Return the certificate and its key; None where neither is given.

    Raises:
        SettingsError: Only one is given, a file is missing, or they do not fit together.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise SettingsError(
            expected="a certificate and its key",
            found="only the key" if cert is None else "only the certificate",
            mend="give both --tls-cert and --tls-key, or neither",
        )
    for path in (cert, key):
        if not path.is_file():
            raise SettingsError("a PEM file", f"no file {path}", "correct --tls-cert or --tls-key")
    _try(cert, key)
    return Tls(cert, key)


def _try(cert: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise SettingsError(
            expected="a certificate in PEM, and the key that belongs to it, without a password",
            found=f"{cert} and {key}: {getattr(error, 'reason', None) or error}",
            mend="give the files that were made together with --tls-cert and --tls-key",
        ) from error


def _no_password() -> str:
    raise ValueError("the key has a password")
