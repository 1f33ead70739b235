"""
Rules of the Kafka side: login, TLS, batches, transactions and topics.

Path: ``rules`` -> here -> ``scope``
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.config import jaas, pem
from engine.config.kinds import InvalidValue
from engine.config.scope import Scope
from engine.config.sections.delivery import StateConfig, TransactionsConfig
from engine.config.sections.engine import IdentityConfig
from engine.config.sections.kafka import (
    BootstrapConfig,
    ProducerConfig,
    SecurityConfig,
    no_embedded,
)
from engine.config.sections.tls import TlsConfig
from engine.config.sections.topics import TOPIC_SETTINGS, GroupsConfig, TopicsConfig
from engine.config.values import Api, Connector
from engine.later import pattern

#: Flush and commit of a transaction take at most this long.
TRANSACTION_LEAST_MS = 50_000


#: A broker refuses longer transactions (transaction.max.timeout.ms).
TRANSACTION_MOST_MS = 900_000


#: A template of `kafka.timestamp` that names something of the record.
_OF_A_RECORD = pattern(r"\$\{(?!\s*now\b(?:[^}a-z]|\d(?:ms|[smhdw]))*\})")
#: Settings of topics by which old records stay.
_KEPT = pattern(
    r"topic\.creation\.[A-Za-z0-9_-]+\."
    r"(retention\.ms|cleanup\.policy|message\.timestamp\.type)"
)


def brokers_are_named(c: Scope) -> None:
    servers = c.of(BootstrapConfig).servers
    if servers is None:
        c.error("bootstrap.servers", "required: host:port, or install `embedded`")
    elif servers == ("embedded",) and (why := no_embedded()):
        c.error("bootstrap.servers", why)
    elif servers == ("embedded",):
        c.warn("bootstrap.servers", "a trial broker: nothing it holds is safe")


def kafka_login_is_whole(c: Scope) -> None:
    for prefix in ("", "producer.", "admin.override."):
        security = c.of(SecurityConfig, at=prefix)
        protocol = security.protocol
        stated = any(
            c.values.stated(f"{prefix}{key}")
            for key in ("security.protocol", "sasl.mechanism", "sasl.jaas.config")
        )
        if prefix and not stated:
            continue
        mechanism, secret = security.mechanism, security.jaas
        if not protocol.startswith("SASL"):
            for key in (f"{prefix}sasl.mechanism", f"{prefix}sasl.jaas.config"):
                if c.values.stated(key):
                    c.error(
                        key, f"{prefix}security.protocol={protocol} does not log in"
                    )
            continue
        if mechanism is None:
            c.error(f"{prefix}sasl.mechanism", f"required by {protocol}")
        if secret is None:
            c.error(f"{prefix}sasl.jaas.config", f"required by {protocol}")
        if mechanism is not None and secret is not None:
            _login_fits(c, prefix, mechanism, jaas.options(secret.reveal()))


def _login_fits(
    c: Scope, prefix: str, mechanism: str, options: Mapping[str, str]
) -> None:
    oauth = mechanism == "OAUTHBEARER"
    needed = ("clientId", "clientSecret") if oauth else ("username", "password")
    missing = [name for name in needed if name not in options]
    if missing:
        c.error(f"{prefix}sasl.jaas.config", f"{mechanism} needs {missing[0]} in it")
    endpoint = f"{prefix}sasl.oauthbearer.token.endpoint.url"
    if oauth and c[endpoint] is None:
        c.error(endpoint, "required by OAUTHBEARER")


def kafka_tls_is_used(c: Scope) -> None:
    stated = [
        key
        for key in c.values
        if key.startswith("ssl.") and c.values.stated(key) and c[key] is not None
    ]
    encrypted = "SSL" in str(c.of(SecurityConfig, at="").protocol)
    if stated and not encrypted:
        c.error(
            stated[0],
            "ssl.* is the Kafka side, and security.protocol="
            f"{c.of(SecurityConfig, at='').protocol} does not encrypt; for the API write "
            f"https.{stated[0]}",
        )
    if encrypted and c.of(TlsConfig, at="ssl.").identification == "none":
        c.warn(
            "ssl.endpoint.identification.algorithm",
            "the broker's host name is not checked",
        )


def kafka_stores_are_pem(c: Scope) -> None:
    for prefix in ("ssl.", "producer.ssl.", "admin.override.ssl."):
        if prefix == "ssl." or any(
            c.values.stated(key) for key in c.values if key.startswith(prefix)
        ):
            stores_are_pem(c, prefix)


def stores_are_pem(s: Scope, prefix: str) -> None:
    tls = s.of(TlsConfig, at=prefix)
    for name, path, inline in (
        ("truststore.location", tls.truststore_location, "truststore.certificates"),
        ("keystore.location", tls.keystore_location, "keystore.key"),
    ):
        key = f"{prefix}{name}"
        if path is None:
            continue
        if s[f"{prefix}{inline}"] is not None:
            s.error(key, f"{prefix}{inline} says the same: leave one of them out")
        try:
            data = path.read_bytes()[: 1 << 20]
            pem.check_store(data, path.name, key=name.startswith("key"))
        except OSError:
            s.error(key, "not readable")
            continue
        except InvalidValue as error:
            s.error(key, str(error))
            continue
        if name.startswith("key"):
            _key_opens(s, prefix, key, data.decode("latin-1"))
            if path.stat().st_mode & 0o044:
                s.warn(key, "a private key in a file that others can read: chmod 600")
    private, chain = f"{prefix}keystore.key", f"{prefix}keystore.certificate.chain"
    for one, other in ((private, chain), (chain, private)):
        if s[one] is not None and s[other] is None:
            s.error(other, f"required with {one}")
    if tls.keystore_key is not None:
        _key_opens(s, prefix, private, tls.keystore_key.reveal())


def _key_opens(s: Scope, prefix: str, key: str, text: str) -> None:
    if pem.encrypted(text) and s[f"{prefix}key.password"] is None:
        s.error(f"{prefix}key.password", f"required: the key of {key} is encrypted")


def batches_fit(c: Scope) -> None:
    batch, request = "producer.batch.size", "producer.max.request.size"
    if c.number(batch) > c.number(request):
        c.error(batch, f"above {request}={c[request]}")
    if c.number(batch) > c.number("producer.buffer.memory"):
        c.error(
            batch, f"above producer.buffer.memory={c.of(ProducerConfig).buffer_memory}"
        )


def delivery_outlasts_a_request(c: Scope) -> None:
    delivery = "producer.delivery.timeout.ms"
    least = c.number("producer.linger.ms") + c.number("producer.request.timeout.ms")
    if c.number(delivery) < least:
        c.error(
            delivery,
            f"below producer.linger.ms + producer.request.timeout.ms = {least:.0f}",
        )


def transactions_have_time(c: Scope) -> None:
    key = "producer.transaction.timeout.ms"
    if c.number(key) > TRANSACTION_MOST_MS:
        c.error(key, f"above {TRANSACTION_MOST_MS}, which brokers refuse")
    elif c.number(key) <= TRANSACTION_LEAST_MS:
        c.error(key, f"allowed: above {TRANSACTION_LEAST_MS} (flush 30 s, commit 20 s)")
    interval = "transaction.boundary.interval.ms"
    if c.values.stated(interval) and c.of(TransactionsConfig).boundary != "interval":
        c.warn(interval, "used with transaction.boundary=interval only")
    boundary, off = "transaction.boundary", "exactly.once.support=disabled"
    if c.values.stated(boundary) and c.of(TransactionsConfig).support == "disabled":
        c.warn(boundary, f"without effect: {off}")


def exactly_once_is_possible(c: Scope) -> None:
    idempotence = "producer.enable.idempotence"
    flight = "producer.max.in.flight.requests.per.connection"
    if c.of(ProducerConfig).idempotent is True:
        if c.of(ProducerConfig).acks != "all":
            c.error(
                idempotence, f"needs producer.acks=all, not {c.of(ProducerConfig).acks}"
            )
        if c.number(flight) > 5:
            c.error(idempotence, f"needs {flight} of at most 5")
    support = c.of(TransactionsConfig).support
    if support == "requested":
        # What was asked for is warned of; a default gives way to what was.
        say = c.warn if c.values.stated("exactly.once.support") else c.note
        for key, holds, why in (
            ("producer.acks", c.of(ProducerConfig).acks == "all", "all"),
            (flight, c.number(flight) <= 5, "at most 5"),
            (idempotence, c.of(ProducerConfig).idempotent is not False, "true"),
            (
                "offset.storage.file.filename",
                c.of(StateConfig).file is None,
                "the state in a topic",
            ),
        ):
            if not holds:
                say(key, f"delivery is at least once: transactions need {why}")
                break
    if support != "required":
        return
    needs = "exactly.once.support=required needs"
    if c.of(ProducerConfig).acks != "all":
        c.error("producer.acks", f"{needs} all")
    if c.of(ProducerConfig).idempotent is not True and c.values.stated(idempotence):
        c.error(idempotence, f"{needs} true")
    if c.number(flight) > 5:
        c.error(flight, f"{needs} at most 5")
    if c.of(StateConfig).file is not None:
        c.error("offset.storage.file.filename", f"{needs} the state in a topic")


def times_outlast_retention(s: Scope, api: Api, connector: Connector) -> None:
    """Records keep the time of the API, and their topic is kept that long."""
    key = "kafka.timestamp"
    entry = s.values.entry(key)
    if entry is None or not _OF_A_RECORD.search(entry.text):
        return
    if not connector.values.of(TopicsConfig).enable:
        return
    kept = _KEPT.fullmatch
    if any(
        (found := kept(name)) is not None
        and (
            found.group(1) == "retention.ms"
            or str(connector.values[name]).strip() in ("compact", "LogAppendTime")
        )
        for name in connector.values
    ):
        return
    s.warn(
        key,
        "a broker deletes records by this time, those older than its retention (7 days, "
        "if nobody said more) soon after they came: topic.creation.default.retention.ms "
        "says how long a topic that is created keeps them (-1: for ever)",
    )


def topics_are_created_as_said(c: Scope) -> None:
    partitions = "topic.creation.default.partitions"
    if c.values.stated(partitions) and 0 < c.number(partitions) < c.number("tasks.max"):
        c.warn(partitions, f"below tasks.max={c.of(IdentityConfig).tasks_max}")
    groups = c.of(GroupsConfig).groups or ()
    assert isinstance(groups, tuple)
    for key in c.values:
        found = re.fullmatch(r"topic\.creation\.([A-Za-z0-9_-]+)\.(.+)", key)
        if found is None or found.group(1) == "default":
            continue
        if found.group(1) not in groups:
            c.error(key, f"topic.creation.groups does not list {found.group(1)!r}")
        elif found.group(2) not in TOPIC_SETTINGS and found.group(2) not in (
            "include",
            "exclude",
            "partitions",
            "replication.factor",
        ):
            c.error(key, "no setting of a topic")
    for group in groups:
        include = f"topic.creation.{group}.include"
        if include not in c.values:
            c.error("topic.creation.groups", f"{include} is missing")
        if group == "default":
            c.error("topic.creation.groups", "default is every topic's last group")
