"""Certificates made for one run of the tests: nobody trusts them, and no key lies in the repository."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)


def make_tls_files(folder: Path) -> Path:
    """Write ``authority.pem``, ``localhost.pem`` with ``localhost.key``, another key, and one with a password."""
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    other = authority.issue_cert("localhost").private_key_pem.bytes()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    for blob in server.cert_chain_pems:
        blob.write_to_path(str(folder / "localhost.pem"), append=True)
    server.private_key_pem.write_to_path(str(folder / "localhost.key"))
    (folder / "other.key").write_bytes(other)
    locked = load_pem_private_key(other, password=None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )
    (folder / "locked.key").write_bytes(locked)
    (folder / "README.md").write_text("no certificate\n")
    return folder
