"""
Tls: `https.ssl.*` as one SSL context, and the pin check.

Owns how certificates, keys and versions become a context.  Opens nothing but
the files named in its options; a context is made once and shared by every
connection of a route.

Path: `source.wire.http1` (a route is made) -> here -> `ssl.SSLContext`
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import ssl
from collections.abc import Iterator

from msgspec import Struct

from engine.errors import ConfigError, Forbidden

#: SSL_OP_LEGACY_SERVER_CONNECT; Python has the name from 3.12 on.
LEGACY_SERVER_CONNECT = 0x4

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class TlsOptions(Struct, frozen=True, kw_only=True):
    """
    `https.ssl.*`; hashable, so that connections are shared only among equals.

    Attributes:
        ca_file, ca_pem: Own CAs, as a file or as text; both None: the system's.
        cert_file, key_file: Client certificate and key as files; the key may
            stand in the certificate's file.
        cert_pem, key_pem: The same as text.
        key_password: Of the key, or None.
        protocols: Versions allowed.
        ciphers: OpenSSL names for TLS 1.2, or empty for the library's.
        check_hostname: `https.ssl.endpoint.identification.algorithm` is https.
        verify: `https.ssl.verify`.
        pins: `sha256/BASE64` of the server's SPKI; one must match.
        seclevel: OpenSSL's security level, or None: the library's.
        renegotiation: Whether a server without RFC 5746 is spoken to.
    """

    ca_file: str | None = None
    ca_pem: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    cert_pem: str | None = None
    key_pem: str | None = None
    key_password: str | None = None
    protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    ciphers: tuple[str, ...] = ()
    check_hostname: bool = True
    verify: bool = True
    pins: tuple[str, ...] = ()
    seclevel: int | None = None
    renegotiation: bool = False

    @property
    def legacy(self) -> bool:
        """Whether less is asked of a server than the library would."""
        return self.seclevel is not None or self.renegotiation

    def __repr__(self) -> str:
        return "TlsOptions(****)"


def tls_context(options: TlsOptions, *offered: str) -> ssl.SSLContext:
    """
    The TLS context of a client, as its options want it.

    Args:
        offered: Protocols for ALPN (RFC 7301).

    Raises:
        ConfigError: A file that cannot be read, a key that does not fit, a
            version or cipher that is unknown.
    """
    try:
        versions = [_VERSIONS[name] for name in options.protocols]
    except KeyError as error:
        raise ConfigError(f"not a TLS version we allow: {error}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = min(versions)
    context.maximum_version = max(versions)
    context.set_alpn_protocols(list(offered))
    try:
        if options.ciphers or options.seclevel is not None:
            context.set_ciphers(_ciphers(options))
        if options.renegotiation:
            context.options |= LEGACY_SERVER_CONNECT
        if options.ca_file or options.ca_pem:
            context.load_verify_locations(
                cafile=options.ca_file, cadata=options.ca_pem or None
            )
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if options.cert_file:
            context.load_cert_chain(
                options.cert_file, options.key_file, lambda: options.key_password or ""
            )
        elif options.cert_pem:
            with in_memory(f"{options.cert_pem}\n{options.key_pem or ''}") as path:
                context.load_cert_chain(path, None, lambda: options.key_password or "")
    except (OSError, ValueError) as error:
        raise ConfigError(f"https.ssl: {error}") from error
    context.check_hostname = options.check_hostname and options.verify
    context.verify_mode = ssl.CERT_REQUIRED if options.verify else ssl.CERT_NONE
    return context


def _ciphers(options: TlsOptions) -> str:
    """OpenSSL's list; DEFAULT, as Python's own leaves out what old servers have."""
    listed = list(options.ciphers) or ["DEFAULT"]
    if options.seclevel is not None:
        listed.append(f"@SECLEVEL={options.seclevel}")
    return ":".join(listed)


@contextlib.contextmanager
def in_memory(text: str) -> Iterator[str]:
    """The path of a nameless file with this text: OpenSSL reads keys by path."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def check_pins(certificate: bytes | None, pins: tuple[str, ...]) -> None:
    """
    Compare the server's public key with `https.ssl.certificate.pins`.

    Args:
        certificate: DER of the server's own certificate.
        pins: `sha256/BASE64`, at least one.

    Raises: Forbidden.
    """
    found = pin_of(certificate) if certificate else "no certificate"
    if found not in pins:
        raise Forbidden(f"the server's key is not pinned: {found}")


def pin_of(certificate: bytes) -> str:
    """`sha256/BASE64` of a DER certificate's SubjectPublicKeyInfo (RFC 7469, 2.4)."""
    # Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version OPTIONAL,
    # serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo ...
    start, _ = _value(certificate, 0)
    at, _ = _value(certificate, start)
    if certificate[at] == 0xA0:
        at = _after(certificate, at)
    for _ in range(5):
        at = _after(certificate, at)
    spki = certificate[at : _after(certificate, at)]
    return "sha256/" + base64.b64encode(hashlib.sha256(spki).digest()).decode()


def _value(der: bytes, at: int) -> tuple[int, int]:
    """Start and end of the value of the DER element at `at` (X.690, 8.1)."""
    length = der[at + 1]
    start = at + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(der[start : start + count], "big")
        start += count
    return start, start + length


def _after(der: bytes, at: int) -> int:
    return _value(der, at)[1]
