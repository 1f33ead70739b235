"""
Rows: every foreign spelling, and what becomes of it.

Owns the tables of other connectors' keys, of Kafka Connect's workers, and of
older spellings of our own.  It is long as a table is.  Exact names come first, patterns in their order.

Path: ``foreign`` -> here -> ``convert`` and ``castorm``
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from engine.config.foreign import castorm, convert
from engine.config.foreign.convert import Convert
from engine.config.sections.kafka import COMPUTED_HERE


class Row(Struct, frozen=True):
    """
    What becomes of one key of another connector's dialect.

    Attributes:
        theirs: Its name, or a pattern with `*`.
        action: "alias", "converted", "void" or "refused".
        ours: Our key, or what of ours does the work; "" for nothing.
        note: What differs, or why.
        convert: For "converted".
        like: Our key whose kind its text is read as; "" for none.
    """

    theirs: str
    action: str
    ours: str = ""
    note: str = ""
    convert: Convert | None = None
    like: str = ""


def _alias(theirs: str, ours: str, note: str = "") -> Row:
    return Row(theirs, "alias", ours, note, like=ours)


def _converted(
    theirs: str, ours: str, function: Convert, note: str = "", like: str = ""
) -> Row:
    return Row(theirs, "converted", ours, note, function, like)


def _part(theirs: str, of: str) -> Row:
    """A key that only says more about another."""
    return _converted(theirs, of, convert.part(of, f"it belongs to {of}"))


def _void(note: str, *names: str) -> list[Row]:
    return [Row(name, "void", "", note) for name in names]


def _refused(note: str, *names: str, ours: str = "") -> list[Row]:
    return [Row(name, "refused", ours, note) for name in names]


_JVM = "there is no JVM here"
_LICENCE = "nothing to license"
_WORKER = "there are no Connect workers here"
_PEM = "only PEM is read; a PEM file has no password, its key may have one: "

_CONVERTERS = {
    "JSON_SR": "JsonSchemaConverter",
    "AVRO": "AvroConverter",
    "PROTOBUF": "ProtobufConverter",
    "JSON": "JsonConverter",
}


def _confluent_v1() -> list[Row]:
    tls = "https.ssl."
    return [
        _alias("url", "http.source.url"),
        _converted(
            "http.request.method",
            "http.source.method",
            castorm.template("http.source.method"),
            like="http.source.method",
        ),
        _converted(
            "http.request.body",
            "http.source.body",
            castorm.template("http.source.body"),
            like="http.source.body",
        ),
        _alias("topic.name.pattern", "kafka.topic"),
        _converted(
            "http.request.headers",
            "http.source.headers",
            castorm.headers,
            "split at its separator (castorm: at commas)",
            "http.source.headers",
        ),
        _converted(
            "http.request.sensitive.headers",
            "http.source.header.<Name>",
            convert.sensitive_headers,
            "every value is a secret",
            "http.source.headers",
        ),
        _part("http.request.headers.separator", "http.request.headers"),
        _converted(
            "http.request.parameters",
            "http.source.query.params",
            convert.parameters,
            "also sent with POST",
            "http.source.query.params",
        ),
        _part("http.request.parameters.separator", "http.request.parameters"),
        _alias(
            "http.next.page.json.pointer",
            "pagination.cursor.field",
            "with http.offset.mode=CURSOR_PAGINATION ${offset} is the cursor",
        ),
        _alias(
            "request.interval.ms",
            "http.source.poll.interval.ms",
            "it lay between requests; here pages follow at once: rate.limit.* if "
            "that is too fast",
        ),
        _alias("max.in.flight.requests", "pagination.concurrent.max.threads"),
        _alias("oauth2.client.mode", "oauth2.client.auth.mode"),
        _converted(
            f"{tls}protocol",
            f"{tls}enabled.protocols",
            convert.values(
                f"{tls}enabled.protocols",
                {
                    "TLS": "TLSv1.2,TLSv1.3",
                    "TLSV1.2": "TLSv1.2",
                    "TLSV1.3": "TLSv1.3",
                },
                refused=dict.fromkeys(
                    ("TLSV1", "TLSV1.1", "SSL", "SSLV3", "SSLV2"), "older than TLS 1.2"
                ),
            ),
        ),
        *_void("the scheme of the URL decides", f"{tls}enabled"),
        *_void(
            "the place of ${offset} decides",
            "use.http.offset.json.pointer.as.string",
        ),
        *_void(
            "headers that carry credentials are always masked",
            "sensitive.headers.list",
            "sensitive.headers.validation.enabled",
        ),
        *_void(
            f"{_PEM}{tls}key.password",
            f"{tls}keystore.password",
            f"{tls}truststore.password",
        ),
        *_void(
            _JVM,
            f"{tls}provider",
            f"{tls}keymanager.algorithm",
            f"{tls}trustmanager.algorithm",
            f"{tls}secure.random.implementation",
            f"{tls}engine.factory.class",
        ),
        *_void(_LICENCE, "confluent.license", "confluent.topic*"),
    ]


def _confluent_v2() -> list[Row]:
    tls = "https.ssl."
    window = "http.source.window."
    return [
        _converted(
            "http.api.path",
            "http.source.url",
            convert.api_path,
            "put behind http.api.base.url, whose path is kept",
            "http.source.url",
        ),
        _alias("topics", "kafka.topic"),
        _alias("http.connect.timeout.ms", "http.client.connection.timeout.ms"),
        _alias("http.request.timeout.ms", "http.client.request.timeout.ms"),
        _alias("time.range.request.delay", "http.source.poll.interval.ms"),
        _converted(
            "http.path.parameters",
            "http.source.url",
            convert.part("http.api.path", convert.lone_path_parameters),
            "{name} in the path becomes the value",
            "http.source.query.params",
        ),
        _part("http.path.parameters.separator", "http.path.parameters"),
        _converted(
            "is.next.page.token.absolute.url",
            "pagination.type",
            convert.values("pagination.type", {"TRUE": "next_url", "FALSE": "cursor"}),
        ),
        _alias("http.cursor.pagination.parameter.name", "pagination.cursor.param"),
        _alias("http.chaining.pagination.parameter.name", "pagination.cursor.param"),
        _converted(
            "enable.cursor.pagination.with.timestamp.mode",
            "http.source.window.*",
            convert.timestamp_mode("cursor"),
        ),
        _converted(
            "chaining.with.timestamp.mode",
            "http.source.window.*",
            convert.timestamp_mode("keyset"),
        ),
        *_void(
            "windows are walked in the order of time",
            "enable.cursor.pagination.with.timestamp.record.ordering",
            "chaining.with.timestamp.record.ordering",
            "enable.cursor.pagination.with.timestamp.mode.record.ordering",
            "chaining.with.timestamp.mode.record.ordering",
        ),
        _alias("initial.start.timestamp.value", f"{window}start"),
        _alias("initial.end.timestamp.value", f"{window}end"),
        _alias("timestamp.format", f"{window}format"),
        _converted(
            "http.timestamp.interval",
            f"{window}size.seconds",
            convert.timestamp_interval,
            "by timestamp.interval.format",
        ),
        _part("timestamp.interval.format", "http.timestamp.interval"),
        _part("http.timestamp.interval.format", "http.timestamp.interval"),
        _converted(
            "http.timestamp.json.pointer",
            "http.offset.json.pointer",
            convert.timestamp_pointer,
            "with http.offset.mode=INCREMENTAL; windows come from the clock",
            "http.offset.json.pointer",
        ),
        _converted(
            "http.offset.json.primary.key.pointer",
            "${last.<path>}",
            convert.primary_key,
            "${primary_key} in requests becomes it",
            "http.offset.json.pointer",
        ),
        _converted(
            "api.chaining.parent.child.relationship",
            "apiN.api.chaining.parent",
            convert.relationship,
            "two colons: parent first; one colon: child first",
        ),
        _alias("reporter.error.topic.name", "errors.deadletterqueue.topic.name"),
        *_void("a dead letter's value is the record as received", "report.errors.as"),
        *_void(
            "dead letters go to our own broker; what arrived is in its topic",
            "reporter.*",
        ),
        _converted(
            "output.data.format",
            "value.converter",
            convert.values("value.converter", _CONVERTERS),
        ),
        _alias(
            "value.converter.value.subject.name.strategy",
            "value.converter.subject.name.strategy",
        ),
        _alias(
            "key.converter.key.subject.name.strategy",
            "key.converter.subject.name.strategy",
        ),
        *_void(
            "our converters have no such setting",
            "value.converter.decimal.format",
            "value.converter.connect.meta.data",
            "value.converter.ignore.default.for.nullables",
            "value.converter.reference.subject.name.strategy",
        ),
        *_void(
            "try `preview`",
            "datapreview.schemas.enable",
            "value.converter.datapreview.schemas.enable",
        ),
        *_void("try `check --connect`", "test.api"),
        *_void("the first poll is at once", "should.add.start.delay"),
        _alias(f"{tls}keystorefile", f"{tls}keystore.location", "PEM only"),
        _alias(f"{tls}truststorefile", f"{tls}truststore.location", "PEM only"),
        *_refused(
            "write bootstrap.servers=HOST:9092, security.protocol=SASL_SSL and "
            "sasl.jaas.config=org.apache.kafka.common.security.plain."
            'PlainLoginModule required username="KEY" password="SECRET";',
            "kafka.auth.mode",
            "kafka.api.key",
            "kafka.api.secret",
            "kafka.service.account.id",
            ours="bootstrap.servers, security.protocol, sasl.jaas.config",
        ),
        *_refused(
            "write oauth2.grant.type=jwt_bearer and oauth2.jwt.key=${file:...}: PEM, or "
            "the JSON of a service account",
            "oauth2.jwt.enabled",
            "oauth2.jwt.claimset",
            "oauth2.jwt.keystore.*",
            "oauth2.jwt.signature.algorithm",
            "gcp.credentials.json",
        ),
        *_refused("fields are not encrypted here", "csfle.enabled"),
        *_refused(
            "registries are named by value.converter.schema.registry.url, without "
            "accounts or contexts",
            "sr.service.account.id",
            "schema.context.name",
        ),
        _converted(
            "http.response.schema.enforce",
            "transformation.validation.rules",
            convert.strict_schema,
            "STRICT is refused",
        ),
    ]


def _castorm() -> list[Row]:
    record = "http.response.record."
    return [
        _converted(
            "http.request.url",
            "http.source.url",
            castorm.template("http.source.url"),
            "${offset.x} becomes ${coalesce(last.<x>, <initial x>)}",
            "http.source.url",
        ),
        _converted(
            "http.request.params",
            "http.source.query.params",
            castorm.template("http.source.query.params"),
            "${offset.x} becomes ${coalesce(last.<x>, <initial x>)}",
            "http.source.query.params",
        ),
        _converted(
            "http.offset.initial",
            "http.initial.offset",
            castorm.initial_offset,
            "one pair as it is; several go into the templates",
        ),
        _converted(
            "http.response.list.pointer",
            "http.response.data.json.pointer",
            castorm.list_pointer,
            "/ is the whole document",
            "http.response.data.json.pointer",
        ),
        _converted(
            f"{record}pointer",
            "transformation.field.mappings",
            castorm.record_pointer,
            "a single mapping with an empty target",
            "http.offset.json.pointer",
        ),
        _converted(
            f"{record}offset.pointer",
            "kafka.key, kafka.timestamp, http.offset.json.pointer, http.offset.mode",
            castorm.offset_pointer,
            "mode INCREMENTAL",
        ),
        _converted(
            f"{record}key.pointer",
            "kafka.key",
            castorm.key_pointer,
            like="http.offset.json.pointer",
        ),
        _converted(
            f"{record}timestamp.pointer",
            "kafka.timestamp",
            castorm.timestamp_pointer,
            "with parse() for a pattern",
            "http.offset.json.pointer",
        ),
        _converted(
            f"{record}timestamp.parser*", "kafka.timestamp", castorm.time_parser
        ),
        _alias("http.timer.interval.millis", "http.source.poll.interval.ms"),
        _alias("http.throttler.interval.millis", "http.source.poll.interval.ms"),
        *(
            _converted(
                f"http.{name}.catchup.interval.millis",
                "http.source.poll.catchup.interval.ms",
                castorm.catching_up,
                "with http.response.record.offset.pointer",
                "http.source.poll.catchup.interval.ms",
            )
            for name in ("timer", "throttler")
        ),
        _alias(
            "http.client.connection.timeout.millis",
            "http.client.connection.timeout.ms",
        ),
        _converted(
            "http.client.read.timeout.millis",
            "http.client.socket.timeout.ms",
            castorm.read_timeout,
            like="http.client.socket.timeout.ms",
        ),
        _alias(
            "http.client.connection.ttl.millis",
            "http.client.connection.keep.alive.duration.ms",
        ),
        _alias(
            "http.client.ttl.millis", "http.client.connection.keep.alive.duration.ms"
        ),
        _alias("http.client.proxy.host", "http.proxy.host"),
        _alias("http.client.proxy.port", "http.proxy.port"),
        _alias("http.client.proxy.username", "http.proxy.user"),
        _alias("http.client.proxy.password", "http.proxy.password"),
        _alias("http.auth.user", "connection.user"),
        _alias("http.auth.password", "connection.password"),
        _alias("http.client.keystore", "https.ssl.keystore.location", "PEM only"),
        *_void(f"{_PEM}https.ssl.key.password", "http.client.keystore.password"),
        _converted(
            "http.response.policy.codes.process",
            "http.response.status.process",
            castorm.status_codes("http.response.status.process"),
        ),
        _converted(
            "http.response.policy.codes.skip",
            "http.response.status.empty",
            castorm.status_codes("http.response.status.empty"),
        ),
        _converted(
            "http.response.list.order.direction",
            "http.offset.order",
            convert.values(
                "http.offset.order", {"ASC": "ASC", "DESC": "NONE", "IMPLICIT": "NONE"}
            ),
        ),
        *_refused(
            "no key/value envelope: kafka.key and value.converter",
            "http.record.schema.*.property.name",
            ours="kafka.key, value.converter",
        ),
        *(
            _converted(name, "", castorm.class_name, "its own: void; others: refused")
            for name in (
                "http.timer",
                "http.client",
                "http.auth",
                "http.throttler",
                "http.request.factory",
                "http.request.template.factory",
                "http.template.factory",
                "http.response.parser",
                "http.response.policy",
                "http.response.policy.parser",
                "http.response.record.parser",
                "http.response.record.mapper",
                "http.record.mapper",
                "http.record.sorter",
                "http.record.filter.factory",
            )
        ),
    ]


def _siblings() -> list[Row]:
    oauth = "http.auth.oauth2."
    store = "PEM only"
    return [
        _alias("pagination.page.size", "pagination.limit.value"),
        _alias("http.client.read.timeout.ms", "http.client.socket.timeout.ms"),
        _alias("connection.timeout.ms", "http.client.connection.timeout.ms"),
        _alias("request.timeout.ms", "http.client.request.timeout.ms"),
        _alias(
            "http.client.connection.pool.max.idle.time.ms",
            "http.client.connection.max.idle.time.ms",
        ),
        _converted(
            "http.version",
            "http.client.http2.enabled",
            convert.values(
                "http.client.http2.enabled",
                {"HTTP_2": "true", "HTTP_1_1": "false", "HTTP/1.1": "false"},
            ),
        ),
        _converted("http.retry.max.attempts", "max.retries", convert.attempts),
        _converted(
            "http.retry.enabled",
            "max.retries",
            convert.part("http.retry.max.attempts", convert.retry_switch),
        ),
        _alias("http.retry.backoff.ms", "retry.backoff.ms"),
        _alias("rate.limit.backoff.ms", "retry.backoff.ms"),
        _alias("rate.limit.backoff.initial.ms", "retry.backoff.ms"),
        _alias("rate.limit.backoff.max.ms", "retry.backoff.max.ms"),
        _alias("rate.limit.backoff.policy", "retry.backoff.policy"),
        *_void("it is 2", "rate.limit.backoff.multiplier"),
        *_refused(
            "one rate at all times: nothing here follows a calendar",
            "ratelimit.schedule.*",
        ),
        _converted("ratelimit.*", "rate.limit.*", convert.rate_limiting),
        _converted("rate.limiting.*", "rate.limit.*", convert.rate_limiting),
        _alias("cache.max.size.bytes", "cache.max.memory.bytes"),
        _alias("cache.maintenance.interval.seconds", "cache.cleanup.interval.seconds"),
        *(
            _converted(
                f"cache.{part}.ttl.ms",
                f"cache.{part}.ttl.seconds",
                convert.seconds(f"cache.{part}.ttl.seconds"),
                "whole seconds only",
            )
            for part in ("response", "schema", "l1", "l2", "l3")
        ),
        _alias("cache.warming.schedule.cron", "cache.warming.schedule"),
        _converted(
            "cache.warming.strategy",
            "cache.warming.strategies",
            convert.warming_strategy,
            "SCHEDULED says nothing: the schedule does",
        ),
        _alias("response.caching.enabled", "cache.enabled"),
        _converted(
            "response.cache.ttl.ms",
            "cache.response.ttl.seconds",
            convert.seconds("cache.response.ttl.seconds"),
            "whole seconds only",
        ),
        _alias("max.cache.size", "cache.response.max.size"),
        *_void("tokens live until they expire", "cache.auth.*"),
        *_void("records are not cached", "cache.transformed.*", "cache.metadata.*"),
        *_void("conditional requests are always on", "cache.conditional.*"),
        *_void("the cache never makes a task wait", "cache.async.*"),
        _converted(
            "http.auth.type",
            "auth.type",
            convert.values(
                "auth.type",
                {
                    "NONE": "NONE",
                    "BASIC": "BASIC",
                    "BEARER": "BEARER",
                    "JWT": "BEARER",
                    "API_KEY": "API_KEY",
                    "OAUTH2": "OAUTH2",
                    "AWS_IAM": "AWS_SIGV4",
                },
                refused={
                    "VAULT": "use a provider: ${file:...} or ${cred:...}",
                    "AZURE_AD": "OAUTH2 with the tenant's token URL",
                },
            ),
        ),
        _alias("http.auth.basic.username", "connection.user"),
        _alias("http.auth.basic.password", "connection.password"),
        _alias("http.auth.api.key", "api.key.value"),
        _alias("http.auth.api.key.header", "api.key.name"),
        _alias("http.auth.jwt.token", "bearer.token"),
        _alias(f"{oauth}bearer.token", "bearer.token"),
        *_refused(
            "write the header: http.source.header.<Name>=value",
            "http.auth.jwt.header",
            "http.auth.jwt.prefix",
        ),
        _alias(f"{oauth}client.id", "oauth2.client.id"),
        _alias(f"{oauth}client.secret", "oauth2.client.secret"),
        _alias(f"{oauth}token.url", "oauth2.token.url"),
        _alias(f"{oauth}scope", "oauth2.client.scope"),
        _alias(f"{oauth}grant.type", "oauth2.grant.type"),
        _alias(
            f"{oauth}token.refresh.buffer.seconds",
            "oauth2.token.refresh.buffer.seconds",
        ),
        *_void(
            "a token is renewed by its expiry",
            f"{oauth}token.refresh.enabled",
            "oauth2.token.refresh.interval.minutes",
        ),
        *_void(
            "one renewal on 401; the server's Date is used",
            "http.auth.retry.*",
            "http.auth.rotation.*",
            "http.auth.clock.skew.tolerance.seconds",
        ),
        *_refused(
            "use a provider (${file:...}, ${cred:...}), or OAUTH2",
            "http.auth.vault.*",
            "http.auth.azure.*",
            "auth.vault.*",
            "auth.aws.*",
            "auth.azure.*",
            "auth.mfa.*",
            "http.auth.aws.assume.role.arn",
        ),
        _alias("oauth2.client.certificate.path", "https.ssl.keystore.location", store),
        _alias("oauth2.client.certificate.password", "https.ssl.key.password"),
        _converted(
            "auth.mode",
            "https.ssl.keystore.location",
            convert.values(
                "auth.mode", {}, void={"CERTIFICATE": "https.ssl.keystore.* says it"}
            ),
        ),
        _converted(
            "ssl.validation.level",
            "https.ssl.verify",
            convert.values(
                "https.ssl.verify",
                {
                    "STRICT": "true",
                    "RELAXED": (
                        ("https.ssl.endpoint.identification.algorithm", "none"),
                    ),
                    "DISABLED": "false",
                },
            ),
            "RELAXED: the host's name is not checked",
        ),
        *_void("the scheme of the URL decides", "ssl.enabled"),
        _converted("ssl.certificate.pins", "https.ssl.certificate.pins", convert.pins),
        _part("ssl.certificate.pinning.enabled", "ssl.certificate.pins"),
        *_void(
            f"{_PEM}ssl.key.password",
            "ssl.keystore.password",
            "ssl.truststore.password",
        ),
        *_void(
            _JVM,
            "ssl.protocol",
            "ssl.provider",
            "ssl.keymanager.algorithm",
            "ssl.trustmanager.algorithm",
            "ssl.secure.random.implementation",
            "ssl.engine.factory.class",
        ),
        _converted("partitioning.key.field", "kafka.key", convert.key_field),
        *_void("the partition is the hash of kafka.key", "partitioning.strategy"),
        _alias("enable.idempotence", "producer.enable.idempotence"),
        _converted(
            "api.chaining.url.template",
            "apiN.http.source.url, apiN.api.chaining.parent",
            convert.chained_pair,
            "parent and child become two apis; {a.b} becomes ${parent.a.b}",
            "http.source.url",
        ),
        _part("api.chaining.enabled", "api.chaining.url.template"),
        _part("api.chaining.method", "api.chaining.url.template"),
        _alias("http.chaining.json.pointer", "api.chaining.extract.field"),
        _converted(
            "odata.token.mode",
            "odata.nextlink.field",
            convert.values(
                "odata.token.mode",
                {},
                void={"FULL_URL": "links are followed whole"},
                refused={"TOKEN_ONLY": "links are followed whole, tokens are not cut"},
            ),
        ),
        *_void(
            "links are followed whole, at the poll's own interval",
            "odata.skiptoken.param",
            "odata.deltatoken.param",
            "odata.*poll.interval*",
        ),
        _alias("error.tolerance", "errors.tolerance"),
        _converted("dlq.enabled", "errors.tolerance", convert.dlq_switch),
        _alias("dlq.topic.name", "errors.deadletterqueue.topic.name"),
        _alias("dlq.include.headers", "errors.deadletterqueue.context.headers.enable"),
        *_refused(
            "errors.deadletterqueue.* and errors.* have no such setting",
            "dlq.*",
            "error.*",
        ),
        _alias(
            "circuit.breaker.recovery.time.ms", "circuit.breaker.recovery.timeout.ms"
        ),
        *_void(
            "one probe at a time, with the request's own deadline",
            "circuit.breaker.timeout.ms",
            "circuit.breaker.half.open.max.calls",
        ),
        _converted(
            "health.check.port",
            "listeners",
            convert.listeners("health.check.port", "health.check.bind.address"),
        ),
        _converted(
            "health.check.bind.address",
            "listeners",
            convert.part(
                "health.check.port",
                convert.listeners("health.check.port", "health.check.bind.address"),
            ),
        ),
        *_void(
            "paths and names are fixed, so that dashboards fit",
            "health.check.path",
            "health.check.endpoints*",
            "health.check.cors*",
            "jmx.domain",
            "jmx.object.name",
        ),
        _converted("debug.logging.enabled", "log.level", convert.debug_logging),
        *_refused(
            "log.level, and PUT /admin/loggers/<name> while running",
            "log4j.*",
            "debug.log.*",
            ours="log.level",
        ),
        *_void(
            "part of every template",
            "transformation.template.enabled",
            "transformation.conditional.enabled",
            "transformation.math.enabled",
            "transformation.env.enabled",
        ),
        _alias("schema.registry.url", "value.converter.schema.registry.url"),
        _alias("auto.register.schemas", "value.converter.auto.register.schemas"),
        _alias("value.subject.name.strategy", "value.converter.subject.name.strategy"),
        _alias("protobuf.schema.file", "value.schema.file"),
        _alias(
            "operational.graceful.shutdown.timeout.ms",
            "task.shutdown.graceful.timeout.ms",
        ),
        *_refused(
            "nothing of the kind here",
            "field.encryption.*",
            "adaptive.polling.*",
            "openapi.*",
            "operational.*",
            "config.validation.*",
        ),
    ]


def _workers() -> list[Row]:
    return [
        _alias("offset.storage.topic", "offsets.storage.topic"),
        _converted(
            "rest.port",
            "listeners",
            convert.listeners("rest.port", "rest.host.name"),
        ),
        _converted(
            "rest.host.name",
            "listeners",
            convert.part("rest.port", convert.listeners("rest.port", "rest.host.name")),
        ),
        _alias("admin.listeners", "listeners"),
        _converted(
            "exactly.once.source.support",
            "exactly.once.support",
            convert.values(
                "exactly.once.support",
                {
                    "DISABLED": "disabled",
                    "PREPARING": "requested",
                    "ENABLED": "requested",
                },
            ),
        ),
        *_void(
            _WORKER,
            "plugin.path",
            "plugin.discovery",
            "config.storage.*",
            "status.storage.*",
            "connect.protocol",
            "scheduled.rebalance.max.delay.ms",
            "worker.*",
            "inter.worker.*",
            "rest.*",
            "offset.flush.timeout.ms",
            "connector.client.config.override.policy",
            "config.action.reload",
            "tasks.max.enforce",
            "topic.tracking.*",
            "consumer.*",
        ),
        *_void(
            "steps on a record are not retried: their outcome does not change",
            "errors.retry.timeout",
        ),
        _alias("errors.retry.delay.max.ms", "retry.backoff.max.ms"),
        *(
            Row(
                name,
                "refused",
                "",
                "mappings, enrichment, filters, kafka.topic, kafka.key and "
                "kafka.headers do their work",
                convert.transforms,
            )
            for name in ("transforms", "transforms.*", "predicates", "predicates.*")
        ),
        *_refused(
            "it is computed here",
            *(f"producer.{name}" for name in COMPUTED_HERE),
            *(f"producer.override.{name}" for name in COMPUTED_HERE),
        ),
        *_void(
            "our converters have no such setting",
            "key.converter.*",
            "value.converter.*",
        ),
    ]


#: In the order in which patterns are tried.
ROWS: Sequence[Row] = (
    *_confluent_v1(),
    *_confluent_v2(),
    *_castorm(),
    *_siblings(),
    *_workers(),
)
