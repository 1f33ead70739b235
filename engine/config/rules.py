"""
Rules: what keys say to one another within a connector.

Owns every check that needs more than one key, each a function named as a
sentence.  A rule reads values and notes findings; it changes nothing.

Path: ``load`` -> here, and ``rules_between`` for several connectors
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from engine.config import grammar, jaas, pem
from engine.config.entries import Findings
from engine.config.kinds import Unfit
from engine.config.memory import memory
from engine.config.rules_libraries import (
    codecs_are_installed,
    converters_are_installed,
    encodings_can_be_read,
    http2_is_installed,
)
from engine.config.rules_names import first_words_are_meant
from engine.config.scope import Scope
from engine.config.sections.auth import AuthConfig, OAuthConfig
from engine.config.sections.borders import CertificatesConfig, ProxyConfig
from engine.config.sections.cache import ResponseCacheConfig, TiersConfig, WarmingConfig
from engine.config.sections.client import BalancingConfig, PoolConfig
from engine.config.sections.converters import ConverterConfig
from engine.config.sections.delivery import StateConfig, TransactionsConfig
from engine.config.sections.engine import ApiConfig, IdentityConfig, PollingConfig
from engine.config.sections.kafka import (
    BootstrapConfig,
    ProducerConfig,
    SecurityConfig,
    no_embedded,
)
from engine.config.sections.letters import DeadLetterQueueConfig, ErrorsConfig
from engine.config.sections.limits import RateLimitConfig, RateLimitsConfig
from engine.config.sections.observing import MetricsConfig
from engine.config.sections.offsets import MODES, OffsetsConfig, WindowsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.processes import MemoryConfig, ScalingConfig
from engine.config.sections.request import RequestConfig
from engine.config.sections.response import RecordsConfig
from engine.config.sections.tls import TlsConfig
from engine.config.sections.topics import TOPIC_SETTINGS, GroupsConfig
from engine.config.sections.transformation import TransformationConfig
from engine.config.values import Api, Connector, Values

#: Flush and commit of a transaction take at most this long.
TRANSACTION_LEAST_MS = 50_000

#: A broker refuses longer transactions (transaction.max.timeout.ms).
TRANSACTION_MOST_MS = 900_000

#: Levels of parents above a child.
MOST_LEVELS = 5

_TEMPLATES = (
    "http.source.url",
    "http.source.query.params",
    "http.source.body",
    "http.initial.offset",
    "http.source.window.start",
    "http.source.window.end",
    "kafka.topic",
    "kafka.key",
    "kafka.timestamp",
)

#: `auth.type` -> the keys it needs, the keys that are its own.
_AUTH: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "BASIC": (
        ("connection.user", "connection.password"),
        ("connection.user", "connection.password"),
    ),
    "BEARER": (("bearer.token",), ("bearer.token",)),
    "API_KEY": (
        ("api.key.value",),
        ("api.key.location", "api.key.name", "api.key.value"),
    ),
    "OAUTH2": (
        ("oauth2.token.url", "oauth2.client.id", "oauth2.client.secret"),
        (
            "oauth2.token.url",
            "oauth2.client.id",
            "oauth2.client.secret",
            "oauth2.grant.type",
            "oauth2.refresh.token",
            "oauth2.client.scope",
            "oauth2.client.auth.mode",
            "oauth2.client.headers",
            "oauth2.token.params",
            "oauth2.token.property",
            "oauth2.token.refresh.buffer.seconds",
        ),
    ),
    "AWS_SIGV4": (
        (
            "http.auth.aws.region",
            "http.auth.aws.access.key.id",
            "http.auth.aws.secret.access.key",
        ),
        (
            "http.auth.aws.region",
            "http.auth.aws.service",
            "http.auth.aws.access.key.id",
            "http.auth.aws.secret.access.key",
            "http.auth.aws.session.token",
        ),
    ),
}


def check_connector(connector: Connector, findings: Findings) -> None:
    """All rules of one connector and its apis."""
    file = _file(connector)
    scope = Scope(connector.values, "", findings, file)
    for rule in _CONNECTOR_RULES:
        rule(scope)
    several = len(connector.apis) > 1
    for api in connector.apis:
        prefix = f"api{api.index}." if several else ""
        api_scope = Scope(api.values, prefix, findings, file)
        for api_rule in _API_RULES:
            api_rule(api_scope, api, connector)
    parents_form_a_tree(connector, findings, several)
    tasks_have_shards(scope, connector)


def memory_is_enough(connector: Connector, findings: Findings) -> None:
    """For a connector without errors: what a task is expected to hold is its limit."""
    limit = connector.values.of(MemoryConfig).max_bytes
    expected = memory(connector)[0].resident
    if 0 < limit < expected:
        Scope(connector.values, "", findings, _file(connector)).warn(
            "process.memory.max.bytes",
            f"a task is expected to hold {expected:,} bytes: it would be started anew "
            "again and again. Raise the limit, or lower producer.buffer.memory, "
            "pagination.limit.value or cache.max.memory.bytes",
        )


def _file(connector: Connector) -> str:
    """The file that names the connector, else one that says anything of it."""
    for values in (connector.values, *(api.values for api in connector.apis)):
        for key in values:
            if (entry := values.entry(key)) is not None and entry.file != "--set":
                return entry.file
    return ""


# Rules of a connector.


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
            _stores_are_pem(c, prefix)


def _stores_are_pem(s: Scope, prefix: str) -> None:
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
        except Unfit as error:
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
    if c.of(TransactionsConfig).support != "required":
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


def scaling_has_room(c: Scope) -> None:
    auto = "auto.scaling."
    if c.number(f"{auto}max.tasks") < c.number(f"{auto}min.tasks"):
        c.error(
            f"{auto}max.tasks", f"below {auto}min.tasks={c.of(ScalingConfig).min_tasks}"
        )
    down = f"{auto}scale.down.threshold.throughput"
    up = f"{auto}scale.up.threshold.throughput"
    if c.number(down) > c.number(up) / 2:
        c.error(down, f"above half of {up}={c.number(up):.10g}: steps would undo steps")


def tuning_has_statistics(c: Scope) -> None:
    if c.of(TiersConfig).statistics is False:
        off = "cache.statistics.enabled is false"
        if c.of(TiersConfig).tuning is True:
            c.error("cache.auto.tuning.enabled", f"{off}: there is nothing to go by")
        ratio = "health.check.cache.hit.ratio.threshold"
        if c.values.stated(ratio):
            c.warn(ratio, f"{off}: it is not judged")


def beans_have_a_door(c: Scope) -> None:
    if c.of(MetricsConfig).jmx_detailed is True and c.of(MetricsConfig).jmx is False:
        c.warn("jmx.metrics.detailed", "needs jmx.enabled=true")


def connections_fit(c: Scope) -> None:
    route = "http.client.max.connections.per.route"
    total = "http.client.max.connections"
    if c.values.stated(route) and c.number(route) > c.number(total):
        c.warn(
            route,
            f"above {total}={c.of(PoolConfig).max_connections}: the smaller one applies",
        )
    for larger, smaller in (
        ("pagination.concurrent.max.threads", route),
        (
            "http.client.connection.keep.alive.duration.ms",
            "http.client.connection.max.idle.time.ms",
        ),
        (
            "http.client.connection.max.idle.time.ms",
            "http.client.connection.keep.alive.duration.ms",
        ),
    ):
        if c.values.stated(larger) and c.number(larger) > c.number(smaller):
            c.note(larger, f"{smaller}={c[smaller]} binds: the smaller one applies")


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


# Rules of an api.


def what_is_required_is_there(s: Scope, api: Api, connector: Connector) -> None:
    if s.of(RequestConfig).url is None:
        s.error("http.source.url", "required: what to ask")
    if s.of(RecordsConfig).topic is None and not connector.children(api):
        s.error("kafka.topic", "required: where records go")


def urls_have_a_base(s: Scope, api: Api, connector: Connector) -> None:
    url = s.of(RequestConfig).url
    if url is None or re.match("https?://", str(url), re.IGNORECASE):
        return
    if s.of(RequestConfig).base_url is None and s.of(BalancingConfig).endpoints is None:
        s.error(
            "http.source.url",
            "a reference needs http.api.base.url or http.source.endpoints",
        )


def ticks_have_one_source(s: Scope, api: Api, connector: Connector) -> None:
    schedule, interval = "http.source.poll.schedule", "http.source.poll.interval.ms"
    if s.values.stated(schedule) and s.values.stated(interval):
        s.error(schedule, f"{interval} says something else: leave one of them out")


def bodies_have_a_method(s: Scope, api: Api, connector: Connector) -> None:
    method = str(s.of(RequestConfig).method)
    if s.of(RequestConfig).body is not None and method in ("GET", "DELETE"):
        s.error("http.source.body", f"http.source.method={method} sends no body")


def chains_know_their_next(s: Scope, api: Api, connector: Connector) -> None:
    kind, mode = str(s.of(PaginationConfig).type), str(s.of(OffsetsConfig).mode)
    if kind not in MODES[mode][1]:
        allowed = ", ".join(sorted(MODES[mode][1]))
        s.error(
            "pagination.type",
            f"http.offset.mode={mode} goes with {allowed}, not {kind}",
        )
    if kind in ("cursor", "next_url") and s.of(PaginationConfig).cursor_field is None:
        s.error("pagination.cursor.field", f"required by pagination.type={kind}")
    if s.of(OffsetsConfig).pointer is None:
        for what, value, needing in (
            ("http.offset.mode", mode, ("INCREMENTAL", "SNAPSHOT_PAGINATION")),
            ("pagination.type", kind, ("keyset",)),
        ):
            if value in needing:
                s.error("http.offset.json.pointer", f"required by {what}={value}")
    if mode == "SNAPSHOT_DIFF":
        if s.of(RecordsConfig).key is None:
            s.error("kafka.key", "required by http.offset.mode=SNAPSHOT_DIFF")
        if connector.values.of(StateConfig).file is not None:
            s.error("http.offset.mode", "SNAPSHOT_DIFF keeps its state in a topic only")
    if kind in ("offset", "page") and mode == "FULL":
        s.note(
            "pagination.type",
            f"{kind} over data that changes meanwhile skips and repeats records; "
            "cursor and keyset do not",
        )


def paging_has_a_type(s: Scope, api: Api, connector: Connector) -> None:
    kind = str(s.of(PaginationConfig).type)
    if kind == "none" and s.values.stated("pagination.max.pages"):
        s.warn(
            "pagination.max.pages",
            "nothing pages: pagination.type is none, and a poll is one request",
        )
    if kind != "keyset":
        for key, name in _names(s.values):
            if name == "last":
                s.warn(
                    key,
                    f"${{last...}} is the last record of the page before: with "
                    f"pagination.type={kind} the next page does not follow from it; "
                    "keyset and http.offset.mode=CHAINING page by it",
                )
    if kind == "odata" and not s.values.stated("http.offset.mode"):
        s.note(
            "pagination.type",
            "each poll reads everything; http.offset.mode=CURSOR_PAGINATION goes on "
            "from the deltaLink, where the API gives one",
        )


def parameters_stand_once(s: Scope, api: Api, connector: Connector) -> None:
    """A paging parameter that is written out is replaced, and which value wins."""
    kind = str(s.of(PaginationConfig).type)
    sent = {
        "offset": (("offset", "http.initial.offset"), ("limit", "limit.value")),
        "page": (("page", "page.start"), ("limit", "limit.value")),
        "cursor": (("cursor", "http.initial.offset"), ("limit", "limit.value")),
        "keyset": (("cursor", "http.initial.offset"), ("limit", "limit.value")),
    }.get(kind, ())
    written = _written(
        str(s.of(RequestConfig).url or ""), "http.source.url"
    ) | _written(f"?{s.of(RequestConfig).params or ''}", "http.source.query.params")
    for name, first in sent:
        param = str(s[f"pagination.{name}.param"])
        if param not in written:
            continue
        where, value = written[param]
        key = first if first.startswith("http.") else f"pagination.{first}"
        if s.values.stated(key):
            s.warn(
                where,
                f"{param}={value} is replaced by paging: {key} says what is sent first",
            )
        elif name != "limit" or kind in ("offset", "page", "keyset"):
            s.note(
                where,
                f"{param} is a parameter of paging: {value!r} is sent "
                + (
                    "with each page"
                    if name == "limit"
                    else "first, then what paging has"
                ),
            )


def _written(text: str, where: str) -> dict[str, tuple[str, str]]:
    """Query parameters with plain values: name -> (key, value)."""
    found: dict[str, tuple[str, str]] = {}
    for item in text.partition("?")[2].split("&"):
        name, _, value = item.partition("=")
        if name and "${" not in item:
            found.setdefault(unquote(name), (where, unquote(value)))
    return found


def windows_are_whole(s: Scope, api: Api, connector: Connector) -> None:
    window = "http.source.window."
    if s.of(WindowsConfig).size is None:
        for key in ("start", "end", "lag.seconds", "overlap.seconds", "format"):
            if s.values.stated(f"{window}{key}"):
                s.error(f"{window}{key}", f"needs {window}size.seconds")
        return
    if s.of(WindowsConfig).start is None:
        s.error(f"{window}start", f"required with {window}size.seconds")
    if s.of(OffsetsConfig).mode != "FULL":
        s.error(f"{window}size.seconds", "windows need http.offset.mode=FULL")


def names_have_values(s: Scope, api: Api, connector: Connector) -> None:
    family = [api, *connector.ancestors(api)]
    entities = any(one.values.of(ApiConfig).entities for one in family)
    for key, name in _names(s.values):
        if name in ("parent", "parent_value") and s.of(ApiConfig).parent is None:
            s.error(key, f"${{{name}}} needs api.chaining.parent")
        elif name == "entityName" and not entities:
            s.error(key, "${entityName} needs entity.names")
        elif name.startswith("window.") and s.of(WindowsConfig).size is None:
            s.error(key, f"${{{name}}} needs http.source.window.size.seconds")


def hyphens_are_meant(s: Scope, api: Api, connector: Connector) -> None:
    for key, text in _templates(s.values):
        records = key.startswith(("kafka.", "transformation."))
        names = grammar.RECORD_NAMES if records else grammar.REQUEST_NAMES
        try:
            found = grammar.hyphenated(text, names)
        except grammar.LanguageError:
            continue
        for name in found:
            s.warn(
                key,
                f"{name} is the field of that name; to subtract write "
                f"{name.replace('-', ' - ')}, and to say that the field is meant "
                f"quote it: record.'{name}'",
            )


def _names(values: Values) -> Iterator[tuple[str, str]]:
    """Each key with a template, and each name that it asks for."""
    for key, text in _templates(values):
        for name in sorted(_asked(text)):
            yield key, name


def _templates(values: Values) -> Iterator[tuple[str, str]]:
    """Each key with a template, and the template."""
    for key in _TEMPLATES:
        if values[key] is not None:
            yield key, str(values[key])
    for key, headers in (
        ("http.source.headers", values.of(RequestConfig).headers),
        ("kafka.headers", values.of(RecordsConfig).headers),
    ):
        for _, text in headers or ():
            yield key, text
    for rule in values.of(TransformationConfig).enrichment or ():
        yield "transformation.enrichment.rules", str(rule.get("expression", ""))


def _asked(text: str) -> frozenset[str]:
    if "${" not in text:
        return frozenset()
    try:
        return grammar.template(text, grammar.REQUEST_NAMES | grammar.RECORD_NAMES)
    except grammar.LanguageError:
        return frozenset()


def entities_are_told_apart(s: Scope, api: Api, connector: Connector) -> None:
    names: Sequence[str] = s.values.of(ApiConfig).entities or ()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        # Each is a shard with a place of its own in the state.
        s.error("entity.names", f"{', '.join(twice)}: named more than once")


def parents_are_named(s: Scope, api: Api, connector: Connector) -> None:
    parent = s.of(ApiConfig).parent
    if parent is None:
        return
    if connector.parent(api) is None:
        s.error("api.chaining.parent", f"there is no api {parent!r}")
    if s.of(ApiConfig).extract is None:
        s.error("api.chaining.extract.field", "required with api.chaining.parent")
    if s.of(ApiConfig).state == "NONE":
        mode = s.of(OffsetsConfig).mode
        if mode != "FULL":
            s.error(
                "api.chaining.state",
                f"NONE keeps no position, and http.offset.mode={mode} is one: each poll "
                "would produce everything again",
            )
        if s.values.own("api.chaining.state.polls"):
            s.warn("api.chaining.state.polls", "not used: api.chaining.state=NONE")


def auth_is_whole(s: Scope, api: Api, connector: Connector) -> None:
    kind = str(s.of(AuthConfig).type)
    own_class = s.of(AuthConfig).auth_class is not None
    if own_class and kind != "NONE":
        s.error("http.auth.class", f"auth.type={kind} is another way: leave one out")
    for key in _AUTH.get(kind, ((), ()))[0]:
        if s[key] is None:
            variables = ", here or in the standard AWS variables"
            s.error(
                key,
                f"required by auth.type={kind}{variables if 'aws' in key else ''}",
            )
    mine = _credentials(api)
    for other, (_, keys) in _AUTH.items():
        for key in keys:
            if key in mine or not s.values.stated(key):
                continue
            # A default of all apis may belong to another one's way.
            if s.values.own(key) or not any(
                key in _credentials(each) for each in connector.apis
            ):
                s.error(key, f"belongs to auth.type={other}, not {kind}")
    url = s.of(OAuthConfig).token_url
    if kind == "OAUTH2":
        if url is not None and open_http(str(url)):
            s.error("oauth2.token.url", "https is required off loopback")
        refresh = s.of(OAuthConfig).grant_type == "refresh_token"
        if refresh and s.of(OAuthConfig).refresh_token is None:
            s.error("oauth2.refresh.token", "required by oauth2.grant.type")


def _credentials(api: Api) -> frozenset[str]:
    """The keys by which an api's way of proving who we are is given its secrets."""
    values = api.values
    kind = (
        "BASIC" if values.of(AuthConfig).auth_class else str(values.of(AuthConfig).type)
    )
    return frozenset(_AUTH.get(kind, ((), ()))[1])


def open_http(url: str) -> bool:
    """Whether a URL is plain http to anything but this machine."""
    if not url.lower().startswith("http://"):
        return False
    host = urlsplit(url.partition("${")[0]).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def tls_is_sound(s: Scope, api: Api, connector: Connector) -> None:
    _stores_are_pem(s, "https.ssl.")
    if s.of(CertificatesConfig).verify is False:
        s.warn("https.ssl.verify", "certificates are not checked")
    if s.of(TlsConfig, at="https.ssl.").identification == "none":
        s.warn(
            "https.ssl.endpoint.identification.algorithm",
            "the host's name is not checked",
        )


def proxies_are_whole(s: Scope, api: Api, connector: Connector) -> None:
    host, port = "http.proxy.host", "http.proxy.port"
    if s[host] is not None and s[port] is None:
        s.error(port, f"required with {host}")
    for key in (port, "http.proxy.user", "http.proxy.password"):
        if s[host] is None and s.values.stated(key):
            s.error(key, f"needs {host}")
    if (s.of(ProxyConfig).password is None) != (s.of(ProxyConfig).user is None):
        s.error("http.proxy.user", "user and password go together")


def deadlines_are_ordered(s: Scope, api: Api, connector: Connector) -> None:
    deadline = "http.client.request.timeout.ms"
    for key in ("http.client.connection.timeout.ms", "http.client.socket.timeout.ms"):
        if s.values.stated(key) and s.number(key) > s.number(deadline):
            s.warn(
                key,
                f"above {deadline}={s[deadline]}: the smaller one applies",
            )
    first, longest = "retry.backoff.ms", "retry.backoff.max.ms"
    if s.number(first) > s.number(longest):
        s.warn(first, f"above {longest}={s[longest]}: the smaller one applies")


def rates_have_a_limiter(s: Scope, api: Api, connector: Connector) -> None:
    off = s.of(RateLimitConfig).enabled is False
    for key in (
        "rate.limit.requests.per.second",
        "rate.limit.burst.capacity",
        "rate.limit.algorithm",
        "rate.limit.window.ms",
        "rate.limit.adaptive.enabled",
    ):
        if off and s.values.stated(key):
            s.warn(key, "rate.limit.enabled is false")
    burst = "rate.limit.burst.capacity"
    algorithm = str(s.of(RateLimitConfig).algorithm)
    if not off and s.values.stated(burst) and algorithm.endswith("WINDOW"):
        s.warn(burst, f"rate.limit.algorithm={algorithm} does not use it")
    rate, common = "rate.limit.requests.per.second", connector.common
    inside = connector.values.of(RateLimitsConfig).scope == "GLOBAL" and (
        common.stated(rate)
        or any(
            other.values.of(RateLimitConfig).enabled and not other.values.own(rate)
            for other in connector.apis
        )
    )
    most = common.of(RateLimitConfig).per_second
    if not off and inside and s.values.own(rate) and s.number(rate) > most:
        s.warn(
            rate,
            f"never reached: all apis together make {most:g} "
            "(rate.limit.scope=PER_API counts each alone)",
        )


def freshness_is_noticed(s: Scope, api: Api, connector: Connector) -> None:
    ttl, interval = "cache.response.ttl.seconds", "http.source.poll.interval.ms"
    if s.of(ResponseCacheConfig).enabled is False:
        if connector.values.of(WarmingConfig).enabled is True:
            s.warn("cache.enabled", "cache.warming.enabled has nothing to warm")
        return
    if connector.values.of(WarmingConfig).enabled is True:
        warming_has_something(s, connector)
    if s.of(PollingConfig).schedule is None and s.number(ttl) * 1000 > s.number(
        interval
    ):
        s.warn(
            ttl, f"above {interval}={s[interval]}: data up to {s[ttl]} s late is normal"
        )


def warming_has_something(s: Scope, connector: Connector) -> None:
    if s.of(OffsetsConfig).mode != "FULL":
        s.warn(
            "http.offset.mode",
            "cache.warming.enabled has nothing to warm: only mode FULL asks again",
        )
    values = connector.values
    strategies = values.of(WarmingConfig).strategies or ()
    if (
        "PREDICTIVE" not in strategies
        and values.of(WarmingConfig).schedule is None
        and not values.of(WarmingConfig).patterns
    ):
        s.warn(
            "cache.warming.strategies",
            "LRU without cache.warming.schedule runs at start only, by what an "
            "earlier run has left on the disk",
        )


def bad_records_have_a_place(s: Scope, api: Api, connector: Connector) -> None:
    letters = connector.values.of(DeadLetterQueueConfig).topic
    if s.of(ErrorsConfig).tolerance == "all" and letters is None:
        s.warn(
            "errors.tolerance",
            "all without errors.deadletterqueue.topic.name: bad records go to the log "
            "only",
        )


def records_fit(s: Scope, api: Api, connector: Connector) -> None:
    limit = "transformation.max.record.size.bytes"
    memory = connector.values.of(ProducerConfig).buffer_memory
    if s.number(limit) > memory:
        s.error(limit, f"above producer.buffer.memory={memory}")
    request = "producer.max.request.size"
    most = connector.values.of(ProducerConfig).max_request_size
    if s.values.stated(limit) and s.number(limit) > most:
        s.note(limit, f"{request}={most} binds: the smaller one applies")


def converters_are_whole(s: Scope, api: Api, connector: Connector) -> None:
    for side in ("key", "value"):
        name = f"{side}.converter"
        kind = str(s[name])
        if kind in ("AvroConverter", "JsonSchemaConverter", "ProtobufConverter"):
            if s[f"{name}.schema.registry.url"] is None:
                s.error(f"{name}.schema.registry.url", f"required by {kind}")
            if kind == "ProtobufConverter":
                for key in (f"{side}.schema.file", f"{side}.schema.message"):
                    if s[key] is None:
                        s.error(key, f"required by {kind}: it needs a descriptor")
    enable = "value.converter.schemas.enable"
    json = s.of(
        ConverterConfig, side="value"
    ).converter == "JsonConverter" and s.values.stated("value.converter")
    if json and not s.values.stated(enable):
        s.note("value.converter", f"{enable} is false here, true in Kafka Connect")


# Rules over the apis of a connector.


def parents_form_a_tree(
    connector: Connector, findings: Findings, several: bool
) -> None:
    """No cycle, at most five levels, no name twice."""
    names: dict[str, Api] = {}
    for api in connector.apis:
        scope = Scope(api.values, f"api{api.index}." if several else "", findings)
        if api.name in names:
            other = names[api.name].index
            scope.error("api.name", f"{api.name!r} is the name of api{other}, too")
        names[api.name] = api
        chain = [api.index]
        above = connector.parent(api)
        while above is not None:
            if above.index in chain:
                path = " -> ".join(f"api{n}" for n in [*chain, above.index])
                scope.error("api.chaining.parent", f"a cycle: {path}")
                break
            chain.append(above.index)
            if len(chain) > MOST_LEVELS:
                scope.error("api.chaining.parent", f"more than {MOST_LEVELS} levels")
                break
            above = connector.parent(above)


def tasks_have_shards(c: Scope, connector: Connector) -> None:
    tops = [api for api in connector.apis if api.values.of(ApiConfig).parent is None]
    shards = sum(len(api.values.of(ApiConfig).entities or (None,)) for api in tops)
    divisible = any(
        api.values.of(OffsetsConfig).mode == "FULL"
        and (
            api.values.of(PaginationConfig).type in ("offset", "page")
            or api.values.of(WindowsConfig).size is not None
        )
        and not connector.children(api)
        for api in tops
    )
    tasks = c.number("tasks.max")
    if c.values.stated("tasks.max") and tasks > shards and not divisible:
        c.warn("tasks.max", f"more tasks than shards: {shards} will be started")


_CONNECTOR_RULES: tuple[Callable[[Scope], None], ...] = (
    brokers_are_named,
    kafka_login_is_whole,
    kafka_tls_is_used,
    kafka_stores_are_pem,
    batches_fit,
    delivery_outlasts_a_request,
    transactions_have_time,
    exactly_once_is_possible,
    codecs_are_installed,
    scaling_has_room,
    tuning_has_statistics,
    beans_have_a_door,
    connections_fit,
    topics_are_created_as_said,
)

_API_RULES: tuple[Callable[[Scope, Api, Connector], None], ...] = (
    what_is_required_is_there,
    urls_have_a_base,
    ticks_have_one_source,
    bodies_have_a_method,
    chains_know_their_next,
    paging_has_a_type,
    parameters_stand_once,
    windows_are_whole,
    names_have_values,
    hyphens_are_meant,
    entities_are_told_apart,
    parents_are_named,
    auth_is_whole,
    tls_is_sound,
    proxies_are_whole,
    encodings_can_be_read,
    http2_is_installed,
    deadlines_are_ordered,
    rates_have_a_limiter,
    freshness_is_noticed,
    bad_records_have_a_place,
    records_fit,
    converters_are_whole,
    converters_are_installed,
    first_words_are_meant,
)
