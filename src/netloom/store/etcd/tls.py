"""TLS from PEM files, checked when the store is opened, with the file's name in every complaint."""

from __future__ import annotations

import os
import socket
import ssl

from netloom.model.errors import InvalidConfig, NotPermitted
from netloom.store.etcd import certificate
from netloom.store.etcd.url import Endpoint, TlsFiles

_DATED = {"certificate has expired", "certificate is not yet valid"}


def make_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the context for all connections. Raises InvalidConfig, NotPermitted."""
    for name in ("ca", "cert", "key"):
        if getattr(files, name):
            _read(name, getattr(files, name))
    context = ssl.create_default_context()
    if files.ca:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=files.ca)
        except ssl.SSLError:
            raise _wrong("ca", files.ca, "holds no certificate in PEM form") from None
    if files.cert:
        _check_dates("cert", files.cert)
        _load_pair(context, files)
    return context


def _load_pair(context: ssl.SSLContext, files: TlsFiles) -> None:
    def no_password() -> str:
        raise _wrong("key", files.key, "is encrypted", "give a key without passphrase, mode 0600")

    try:
        context.load_cert_chain(files.cert, files.key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"does not belong to certificate {files.cert}"
            raise _wrong("key", files.key, message, "give the key it was made with") from None
        raise _wrong("key", files.key, "holds no private key in PEM form") from None


def explain(error: ssl.SSLError, endpoint: Endpoint, timeout_s: float) -> str:
    """Say why a handshake with ``endpoint`` failed; asks it again for the dates if they matter."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        if why in _DATED:
            why = f"certificate {_dates_of(endpoint, timeout_s) or why}"
        return f"its {why}" if why.startswith("certificate") else f"its certificate: {why}"
    reason = (error.reason or str(error)).lower().replace("_", " ")
    if "alert" in reason and "certificate" in reason:
        return f"it refuses our client certificate, or wants one ({reason})"
    if isinstance(error, ssl.SSLEOFError):
        # its alert was lost with the connection: we were still writing when it came
        return "it ended the connection: it may refuse our client certificate, or want one"
    if "wrong version number" in reason:
        return "it does not speak TLS (write etcd://)"
    return f"TLS: {reason}"


def _dates_of(endpoint: Endpoint, timeout_s: float) -> str:
    """Say what is wrong with the dates of a certificate that was refused; nothing else is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((endpoint.host, endpoint.port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
        return certificate.validity(der or b"").problem(certificate.now())
    except (OSError, ValueError):
        return ""


def _read(name: str, path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except PermissionError:
        raise NotPermitted(
            f"datastore: {name} file {path} is not readable", hint="run as root, or change its mode"
        ) from None
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise _wrong(name, path, message, f"give {name}= an absolute path") from None


def _check_dates(name: str, path: str) -> None:
    try:
        problem = certificate.validity_of_pem(_read(name, path)).problem(certificate.now())
    except ValueError as error:
        raise _wrong(name, path, str(error)) from None
    if problem:
        raise _wrong(name, path, problem, "renew it, or set this machine's clock right")


def _wrong(name: str, path: str, message: str, hint: str = "give a PEM file") -> InvalidConfig:
    value = os.fspath(path)
    return InvalidConfig(
        f"datastore: {name} file {path} {message}",
        field=f"datastore.{name}",
        value=value,
        hint=hint,
    )
