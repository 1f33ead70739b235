"""
PEM: what keys and certificates look like from the outside.

Owns a look at the frame of PEM text, so that a Java key store or a swapped
file is refused at load; the TLS library reads the rest when it connects.

Path: ``keys.client`` and ``rules`` -> here
"""

from __future__ import annotations

import re

from engine.config.kinds import InvalidValue
from engine.later import pattern

_CERTIFICATE = pattern(
    r"-----BEGIN CERTIFICATE-----\s+[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"
)
_KEY = pattern(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----.+-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----",
    re.DOTALL,
)

#: How a Java store becomes PEM.
CONVERT = (
    "only PEM is read; convert with: openssl pkcs12 -in STORE.p12 -nodes -out "
    "STORE.pem (a JKS first with: keytool -importkeystore -srckeystore STORE.jks "
    "-destkeystore STORE.p12 -deststoretype PKCS12)"
)


def check_certificates(text: str) -> None:
    """Refuse what holds no certificate.  Raises: Unfit, without the text."""
    if not _CERTIFICATE.search(text):
        raise InvalidValue("no certificate in PEM form (-----BEGIN CERTIFICATE-----)")


def check_key(text: str) -> None:
    """Refuse what holds no private key.  Raises: Unfit, without the text."""
    if not _KEY.search(text):
        raise InvalidValue("no private key in PEM form (-----BEGIN PRIVATE KEY-----)")


def encrypted(text: str) -> bool:
    """Whether a private key in it needs a password."""
    return "ENCRYPTED" in text


def check_store(data: bytes, name: str, *, key: bool) -> None:
    """
    Refuse a file that is no PEM store.

    Args:
        key: True if it must hold a private key, too.
    Raises: Unfit.
    """
    java = data[:4] in (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
    binary = data[:1] == b"\x30" and b"-----BEGIN" not in data
    if java or binary or name.lower().endswith((".jks", ".p12", ".pfx")):
        raise InvalidValue(CONVERT)
    text = data.decode("latin-1")
    check_certificates(text)
    if key:
        check_key(text)
