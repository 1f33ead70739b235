"""
Cluster: which Kafka cluster it is, and how it is reached.

Owns the plain values that every client of ours is made from, and what they become:
a TLS context, a login.  Opens no connection but to a token endpoint.

Path: `task.broker` makes one -> here -> `sink.produce`, `sink.caller`
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from msgspec import Struct

from engine.errors import Misconfigured
from engine.later import later
from engine.sink.produce.connection import Options
from engine.sink.produce.handshake import Manners
from engine.sink.sasl import Login

tokens = later("engine.sink.tokens")

#: What brokers are told of our version (KIP-511).
SOFTWARE = "1"

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class Cluster(Struct, frozen=True, kw_only=True, weakref=True):
    """
    A Kafka cluster and how to reach it; durations in seconds, sizes in bytes.

    Attributes:
        bootstrap: `host:port`, at least one.
        protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.
        login: The options of `sasl.jaas.config`: username and password, or
            clientId, clientSecret, scope.
        token_url: `sasl.oauthbearer.token.endpoint.url`.
        ca_file, ca: PEM file or PEM text of the authorities; neither: system's.
        chain_file: PEM file with certificate chain and private key.
        chain, key: The same as PEM texts.
        key_password: For either.
        check_hostname: False for `ssl.endpoint.identification.algorithm=none`.
        versions: `ssl.enabled.protocols`: those between the lowest and the highest.
        ciphers: `ssl.cipher.suites`; none: the library's choice.
    """

    bootstrap: tuple[str, ...]
    client_id: str = "kafka-http-source"
    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    login: Mapping[str, str] = {}
    token_url: str = ""
    ca_file: str = ""
    ca: str = ""
    chain_file: str = ""
    chain: str = ""
    key: str = ""
    key_password: str = ""
    check_hostname: bool = True
    versions: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    ciphers: tuple[str, ...] = ()
    request_timeout: float = 15.0
    metadata_max_age: float = 300.0
    retry_backoff: float = 0.1
    reconnect_backoff: float = 0.05
    reconnect_backoff_max: float = 1.0
    connections_max_idle: float = 540.0
    send_buffer: int | None = None
    receive_buffer: int | None = None

    def __repr__(self) -> str:
        return f"Cluster({self.address})"

    @property
    def address(self) -> str:
        """The bootstrap servers for people."""
        return ",".join(self.bootstrap)


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """The path of a nameless file with this text: OpenSSL reads keys by path."""
    handle = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(handle, text.encode())
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def tls(cluster: Cluster) -> ssl.SSLContext:
    """
    The TLS context for a cluster.

    Raises: Misconfigured, naming the key whose PEM cannot be read or whose
    ciphers nobody knows.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    versions = [_VERSIONS[name] for name in cluster.versions]
    context.minimum_version, context.maximum_version = min(versions), max(versions)
    context.check_hostname = cluster.check_hostname
    try:
        if cluster.ciphers:
            context.set_ciphers(":".join(cluster.ciphers))
    except ssl.SSLError as error:
        named = ",".join(cluster.ciphers)
        raise Misconfigured(f"ssl.cipher.suites names none: {named}") from error
    try:
        if cluster.ca_file or cluster.ca:
            # An empty text would be read as a certificate, and is none.
            context.load_verify_locations(
                cluster.ca_file or None, None, cluster.ca or None
            )
        else:
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"ssl.truststore is no readable PEM: {error}") from error
    try:
        # A callable, since without a password OpenSSL would ask the terminal.
        if cluster.chain_file:
            context.load_cert_chain(
                cluster.chain_file, password=lambda: cluster.key_password
            )
        elif cluster.chain:
            with _in_memory(f"{cluster.chain}\n{cluster.key}") as path:
                context.load_cert_chain(path, password=lambda: cluster.key_password)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"ssl.keystore is no readable PEM: {error}") from error
    return context


def login_of(cluster: Cluster) -> Login | None:
    """
    The login at a cluster's brokers, None where there is none.

    Raises: Misconfigured, naming what `sasl.jaas.config` lacks or how the token
    endpoint refuses us; Unavailable if that does not answer.
    Blocks: for a new token, at most about 5 s.
    """
    if not cluster.protocol.startswith("SASL_"):
        return None
    options = cluster.login
    bearer = cluster.mechanism == "OAUTHBEARER"
    wanted = ("clientId", "clientSecret") if bearer else ("username", "password")
    for name in wanted:
        if name not in options:
            raise Misconfigured(
                f"sasl.jaas.config lacks {name} for {cluster.mechanism}"
            )
    if not bearer:
        return Login(cluster.mechanism, options["username"], options["password"])
    secure = cluster.protocol.endswith("SSL")
    context = tls(cluster) if secure else ssl.create_default_context()
    source = tokens.source_of(cluster.token_url, options, context)
    # Here and not in the midst of a connection: what is wrong with the token is no
    # fault of a broker.
    source.token()
    return Login(
        cluster.mechanism, token=source.token, extensions=tokens.extensions(options)
    )


def options_of(cluster: Cluster) -> Options:
    """
    How its brokers are connected.

    Raises, blocks: as `tls` and `login_of`.
    """
    secure = cluster.protocol.endswith("SSL")
    return Options(
        Manners(cluster.client_id, SOFTWARE, login_of(cluster)),
        tls(cluster) if secure else None,
        cluster.request_timeout,
        cluster.connections_max_idle,
        cluster.send_buffer,
        cluster.receive_buffer,
    )
