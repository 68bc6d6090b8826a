"""Certificates of a test: an authority, and files as a server or client is given them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Files:
    """A certificate with its key, in PEM."""

    cert: Path
    key: Path

    def replace(self, ca: trustme.CA) -> None:
        """Puts another authority's certificate in their place."""
        _write(ca.issue_cert("127.0.0.1"), self)


def issued(ca: trustme.CA, folder: Path, name: str, *, until: datetime | None = None) -> Files:
    """A certificate for this machine, or of a client on it."""
    files = Files(folder / f"{name}.pem", folder / f"{name}.key")
    _write(ca.issue_cert("127.0.0.1", not_after=until), files)
    return files


def expired(ca: trustme.CA, folder: Path, name: str) -> Files:
    """A certificate that was valid once."""
    return issued(ca, folder, name, until=datetime(2020, 1, 1, tzinfo=UTC))


def authority(ca: trustme.CA, folder: Path, name: str = "ca") -> Path:
    """The authority's own certificate."""
    path = folder / f"{name}.pem"
    path.write_bytes(ca.cert_pem.bytes())
    return path


def _write(certificate: trustme.LeafCert, files: Files) -> None:
    files.cert.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    files.key.write_bytes(certificate.private_key_pem.bytes())
