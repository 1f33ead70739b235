"""
Options of TLS, towards the API and towards Kafka alike.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from engine.config.kinds import Choice, CommaList, File, Password, Text
from engine.config.pem import check_certificates, check_key
from engine.config.sections.section import Section, option, unset
from engine.observe.redact import Secret

#: PEM only; what a JVM's store has to become first.
STORE_TYPE = Choice(
    ("PEM",),
    refused={
        word: "only PEM is read; convert with: "
        "keytool -importkeystore -srckeystore FILE -destkeystore store.p12 "
        "-deststoretype PKCS12 && openssl pkcs12 -in store.p12 -nodes -out store.pem"
        for word in ("JKS", "PKCS12")
    },
)

_VERSIONS = Choice(
    ("TLSv1.2", "TLSv1.3"),
    refused={
        word: "older than TLS 1.2" for word in ("TLSv1", "TLSv1.1", "SSLv3", "SSL")
    },
)

IDENTIFICATION = Choice(("https", "none"))


class TlsConfig(Section, frozen=True, kw_only=True):
    """Whom we trust and who we are, in a place `at` as `https.ssl.` or `ssl.`."""

    TITLE: ClassVar[str] = "TLS towards the API"
    SCOPE: ClassVar[str] = "A"

    truststore_location: Path | None = unset(
        "{at}truststore.location",
        File(exists=True),
        None,
        "PEM file of the authorities trusted towards {side}; unset: the system's.",
        "ca.pem",
    )
    truststore_certificates: Secret | None = unset(
        "{at}truststore.certificates",
        Password(multiline=True, check=check_certificates),
        None,
        "The same as PEM text.",
        "${file:ca.pem}",
    )
    truststore_type: str = option(
        "{at}truststore.type",
        STORE_TYPE,
        "PEM",
        "Form of the trust store; JKS and PKCS12 have to be converted.",
    )
    keystore_location: Path | None = unset(
        "{at}keystore.location",
        File(exists=True),
        None,
        "PEM file with our certificate chain and its key.",
        "client.pem",
    )
    keystore_key: Secret | None = unset(
        "{at}keystore.key",
        Password(multiline=True, check=check_key),
        None,
        "Our key as PEM text, with the certificate chain beside it.",
        "${file:client.key}",
    )
    keystore_certificate_chain: Secret | None = unset(
        "{at}keystore.certificate.chain",
        Password(multiline=True, check=check_certificates),
        None,
        "Our certificate chain as PEM text.",
        "${file:client.crt}",
    )
    keystore_type: str = option(
        "{at}keystore.type",
        STORE_TYPE,
        "PEM",
        "Form of the key store; JKS and PKCS12 have to be converted.",
    )
    key_password: Secret | None = unset(
        "{at}key.password",
        Password(),
        None,
        "What our key is encrypted with.",
        "${env:TLS_KEY_PASSWORD}",
    )
    identification: str = option(
        "{at}endpoint.identification.algorithm",
        IDENTIFICATION,
        "https",
        "Whether the certificate must name the host. none, or an empty value: "
        "not checked, with a warning at each start.",
    )
    protocols: tuple[str, ...] = option(
        "{at}enabled.protocols",
        CommaList(_VERSIONS),
        "TLSv1.2,TLSv1.3",
        "TLS versions offered.",
    )
    ciphers: tuple[str, ...] | None = unset(
        "{at}cipher.suites",
        CommaList(Text(r"[A-Za-z0-9_-]+", "cipher suite")),
        None,
        "Cipher suites offered; unset: the library's choice.",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    )
