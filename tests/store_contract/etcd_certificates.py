"""Certificates of every kind, by openssl, as an operator has them."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

SERVER_ADDRESS = "10.99.0.11"


class Authority:
    """A certificate authority in ``directory``; ``path`` is its certificate."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self.path = directory / f"{name}.pem"
        self._key = directory / f"{name}.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "30", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.path,
        )  # fmt: skip

    def issue(
        self, name: str, *, begins_h: float = -1, ends_h: float = 24, address: str = SERVER_ADDRESS
    ) -> tuple[Path, Path]:
        """Return a certificate for server and client use, and its key; hours are from now."""
        key, request, certificate = (self._directory / f"{name}.{kind}" for kind in _KINDS)
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", key, "-out", request,
        )  # fmt: skip
        config = self._directory / f"{name}.cnf"
        config.write_text(_CONFIG.format(directory=self._directory, address=address))
        (self._directory / "index.txt").write_text("")
        (self._directory / "index.txt.attr").write_text("unique_subject = no\n")
        (self._directory / "serial").write_text(os.urandom(8).hex())
        _openssl(
            "ca", "-batch", "-notext", "-config", config,
            "-cert", self.path, "-keyfile", self._key, "-in", request, "-out", certificate,
            "-startdate", _at(begins_h), "-enddate", _at(ends_h),
        )  # fmt: skip
        return certificate, key


_KINDS = ("key", "csr", "pem")
_CONFIG = """
[ca]
default_ca = ours
[ours]
database = {directory}/index.txt
serial = {directory}/serial
new_certs_dir = {directory}
default_md = sha256
policy = any
x509_extensions = uses
[any]
commonName = supplied
[uses]
subjectAltName = IP:{address}
extendedKeyUsage = serverAuth, clientAuth
"""


def _at(hours: float) -> str:
    return f"{datetime.now(UTC) + timedelta(hours=hours):%Y%m%d%H%M%SZ}"


def _openssl(*arguments: object) -> None:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
