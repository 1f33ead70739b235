"""Other connectors' keys: taken, converted, without effect, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.config import Codes, Loaded, Secret, load
from engine.config.explain import explain
from engine.config.foreign.rows import ROWS, Row
from tests.config.conftest import Files

V2 = "connector.class=HttpSourceV2\n"
CASTORM = "connector.class=com.github.castorm.kafka.connect.http.HttpSourceConnector\n"
RECORD = "http.response.record."

#: Theirs, ours, a value, what that is with us.
ALIASES: list[tuple[str, str, str, Any]] = [
    ("url", "http.source.url", "https://h.example.com/x", "https://h.example.com/x"),
    ("topic.name.pattern", "kafka.topic", "t-${api}", "t-${api}"),
    ("http.next.page.json.pointer", "pagination.cursor.field", "/a/b", "/a/b"),
    ("request.interval.ms", "http.source.poll.interval.ms", "500", 500),
    ("max.in.flight.requests", "pagination.concurrent.max.threads", "7", 7),
    ("topics", "kafka.topic", "t", "t"),
    ("http.connect.timeout.ms", "http.client.connection.timeout.ms", "5", 5),
    ("http.request.timeout.ms", "http.client.request.timeout.ms", "50000", 50000),
    ("time.range.request.delay", "http.source.poll.interval.ms", "500", 500),
    ("http.cursor.pagination.parameter.name", "pagination.cursor.param", "c", "c"),
    ("http.chaining.pagination.parameter.name", "pagination.cursor.param", "c", "c"),
    (
        "reporter.error.topic.name",
        "errors.deadletterqueue.topic.name",
        "dead-${connector}",
        "dead-${connector}",
    ),
    (
        "value.converter.value.subject.name.strategy",
        "value.converter.subject.name.strategy",
        "io.confluent.kafka.serializers.subject.RecordNameStrategy",
        "RecordNameStrategy",
    ),
    (
        "key.converter.key.subject.name.strategy",
        "key.converter.subject.name.strategy",
        "RecordNameStrategy",
        "RecordNameStrategy",
    ),
    ("http.timer.interval.millis", "http.source.poll.interval.ms", "9", 9),
    ("http.throttler.interval.millis", "http.source.poll.interval.ms", "9", 9),
    (
        "http.client.connection.timeout.millis",
        "http.client.connection.timeout.ms",
        "9",
        9,
    ),
    ("http.client.read.timeout.millis", "http.client.socket.timeout.ms", "9", 9),
    (
        "http.client.connection.ttl.millis",
        "http.client.connection.keep.alive.duration.ms",
        "9",
        9,
    ),
    (
        "http.client.ttl.millis",
        "http.client.connection.keep.alive.duration.ms",
        "9",
        9,
    ),
    ("pagination.page.size", "pagination.limit.value", "9", 9),
    ("http.client.read.timeout.ms", "http.client.socket.timeout.ms", "9", 9),
    ("connection.timeout.ms", "http.client.connection.timeout.ms", "9", 9),
    ("request.timeout.ms", "http.client.request.timeout.ms", "50000", 50000),
    (
        "http.client.connection.pool.max.idle.time.ms",
        "http.client.connection.max.idle.time.ms",
        "1001",
        1001,
    ),
    ("http.retry.backoff.ms", "retry.backoff.ms", "9", 9),
    ("rate.limit.backoff.ms", "retry.backoff.ms", "9", 9),
    ("rate.limit.backoff.max.ms", "retry.backoff.max.ms", "9000", 9000),
    ("ratelimit.enabled", "rate.limit.enabled", "true", True),
    ("rate.limiting.enabled", "rate.limit.enabled", "true", True),
    ("ratelimit.requests.per.second", "rate.limit.requests.per.second", "2", 2.0),
    ("ratelimit.burst.size", "rate.limit.burst.capacity", "9", 9),
    ("rate.limiting.window.size.ms", "rate.limit.window.ms", "90", 90),
    ("cache.max.size.bytes", "cache.max.memory.bytes", "2097152", 2097152),
    (
        "cache.maintenance.interval.seconds",
        "cache.cleanup.interval.seconds",
        "9",
        9,
    ),
    ("cache.warming.schedule.cron", "cache.warming.schedule", "@daily", "0 0 0 * * *"),
    ("response.caching.enabled", "cache.enabled", "false", False),
    ("max.cache.size", "cache.response.max.size", "9", 9),
    ("http.chaining.json.pointer", "api.chaining.extract.field", "/a", "/a"),
    ("error.tolerance", "errors.tolerance", "ALL", "all"),
    ("dlq.topic.name", "errors.deadletterqueue.topic.name", "d", "d"),
    (
        "dlq.include.headers",
        "errors.deadletterqueue.context.headers.enable",
        "false",
        False,
    ),
    (
        "circuit.breaker.recovery.time.ms",
        "circuit.breaker.recovery.timeout.ms",
        "900",
        900,
    ),
    ("enable.idempotence", "producer.enable.idempotence", "true", True),
    (
        "schema.registry.url",
        "value.converter.schema.registry.url",
        "https://r.example.com",
        ("https://r.example.com",),
    ),
    ("auto.register.schemas", "value.converter.auto.register.schemas", "false", False),
    (
        "value.subject.name.strategy",
        "value.converter.subject.name.strategy",
        "RecordNameStrategy",
        "RecordNameStrategy",
    ),
    (
        "operational.graceful.shutdown.timeout.ms",
        "task.shutdown.graceful.timeout.ms",
        "9",
        9,
    ),
    ("offset.storage.topic", "offsets.storage.topic", "o", "o"),
    ("admin.listeners", "listeners", "http://127.0.0.1:1", ("http://127.0.0.1:1",)),
    ("errors.retry.delay.max.ms", "retry.backoff.max.ms", "9000", 9000),
]

#: What is written, and the values that it gives.
CONVERTED: list[tuple[str, dict[str, Any]]] = [
    ("http.request.method=post", {"http.source.method": "POST"}),
    (
        "http.request.headers=A: b|C: d, e",
        {"http.source.headers": (("A", "b"), ("C", "d, e"))},
    ),
    (
        "http.request.headers=A: b;C: d\nhttp.request.headers.separator=;",
        {"http.source.headers": (("A", "b"), ("C", "d"))},
    ),
    (
        CASTORM + "http.request.headers=A: b, C: d",
        {"http.source.headers": (("A", "b"), ("C", "d"))},
    ),
    (
        "http.request.headers=A: b\nhttp.request.sensitive.headers=X: canary|Y: z",
        {"http.source.headers": (("A", "b"), ("X", "canary"), ("Y", "z"))},
    ),
    ("http.request.parameters=a=1&b=2", {"http.source.query.params": "a=1&b=2"}),
    (
        "http.request.parameters=a=1|b=2&3\nhttp.request.parameters.separator=|",
        {"http.source.query.params": "a=1&b=2%263"},
    ),
    ("https.ssl.protocol=TLSv1.3", {"https.ssl.enabled.protocols": ("TLSv1.3",)}),
    (
        "https.ssl.protocol=TLS",
        {"https.ssl.enabled.protocols": ("TLSv1.2", "TLSv1.3")},
    ),
    (
        "https.ssl.endpoint.identification.algorithm=",
        {"https.ssl.endpoint.identification.algorithm": "none"},
    ),
    (
        V2 + "http.api.base.url=https://h.example.com/base/v1\nhttp.api.path=/a/{id}\n"
        "http.path.parameters=id=${offset};\nhttp.path.parameters.separator=;",
        {"http.source.url": "https://h.example.com/base/v1/a/${offset}"},
    ),
    (
        V2 + "is.next.page.token.absolute.url=true\npagination.cursor.field=a",
        {"pagination.type": "next_url"},
    ),
    (
        V2 + "is.next.page.token.absolute.url=false\npagination.cursor.field=a",
        {"pagination.type": "cursor"},
    ),
    (
        V2 + "http.timestamp.interval=2\ntimestamp.interval.format=HOURS\n"
        "initial.start.timestamp.value=2024-01-01\ntimestamp.format=EPOCH_MILLIS\n"
        "initial.end.timestamp.value=2025-01-01\npagination.cursor.field=a\n"
        "enable.cursor.pagination.with.timestamp.mode=true",
        {
            "http.source.window.size.seconds": 7200,
            "http.source.window.start": "2024-01-01",
            "http.source.window.end": "2025-01-01",
            "http.source.window.format": "EPOCH_MILLIS",
            "pagination.type": "cursor",
        },
    ),
    (
        V2 + "http.offset.json.primary.key.pointer=/a/b-c\n"
        "http.source.query.params=after=${primary_key}",
        {"http.source.query.params": "after=${last.a.'b-c'}"},
    ),
    (V2 + "output.data.format=JSON", {"value.converter": "JsonConverter"}),
    (
        V2 + "output.data.format=AVRO\nschema.registry.url=https://r.example.com",
        {"value.converter": "AvroConverter"},
    ),
    (
        V2 + "output.data.format=JSON_SR\nschema.registry.url=https://r.example.com",
        {"value.converter": "JsonSchemaConverter"},
    ),
    (
        CASTORM + "http.request.url=https://h.example.com/?a=${offset.id}\n"
        f"http.offset.initial=id=7\n{RECORD}offset.pointer=id=/x/y",
        {
            "http.source.url": "https://h.example.com/?a=${coalesce(last.x.y, '7')}",
            "http.initial.offset": "7",
            "http.offset.json.pointer": "/x/y",
            "http.offset.mode": "INCREMENTAL",
        },
    ),
    (
        CASTORM + "http.request.params=t=${offset.timestamp?datetime.iso?long}\n"
        "http.offset.initial=timestamp=2020-01-01T00:00:00Z, id=it's\n"
        f"{RECORD}offset.pointer=key=/k, timestamp=/t, id=/i",
        {
            "http.source.query.params": (
                "t=${epoch_ms(coalesce(last.t, '2020-01-01T00:00:00Z'))}"
            ),
            "http.initial.offset": None,
            "kafka.key": "${record.k}",
            "kafka.timestamp": "${record.t}",
            "http.offset.json.pointer": "/i",
        },
    ),
    (
        CASTORM + "http.response.list.pointer=/items",
        {"http.response.data.json.pointer": "/items"},
    ),
    (
        CASTORM + "http.response.list.pointer=/",
        {"http.response.data.json.pointer": ""},
    ),
    (
        CASTORM + f"{RECORD}pointer=/a",
        {"transformation.field.mappings": [{"source": "/a", "target": ""}]},
    ),
    (CASTORM + f"{RECORD}key.pointer=/a/b", {"kafka.key": "${record.a.b}"}),
    *(
        (
            CASTORM + f"{RECORD}offset.pointer=timestamp=/at\n{theirs}=900",
            {"http.source.poll.catchup.interval.ms": 900},
        )
        for theirs in (
            "http.timer.catchup.interval.millis",
            "http.throttler.catchup.interval.millis",
        )
    ),
    (CASTORM + f"{RECORD}timestamp.pointer=/a", {"kafka.timestamp": "${record.a}"}),
    (
        CASTORM + f"{RECORD}timestamp.pointer=/a\n"
        f"{RECORD}timestamp.parser=com.github.castorm.x.DateTimeParser\n"
        f"{RECORD}timestamp.parser.pattern=yyyy-MM-dd\n"
        f"{RECORD}timestamp.parser.zone=UTC",
        {"kafka.timestamp": "${parse(record.a, 'yyyy-MM-dd', 'UTC')}"},
    ),
    (
        CASTORM + "http.auth.type=Basic\nhttp.auth.user=u\nhttp.auth.password=canary",
        {
            "auth.type": "BASIC",
            "connection.user": "u",
            "connection.password": Secret("canary"),
        },
    ),
    (
        CASTORM + "http.client.proxy.host=p\nhttp.client.proxy.port=1\n"
        "http.client.proxy.username=u\nhttp.client.proxy.password=canary",
        {
            "http.proxy.host": "p",
            "http.proxy.port": 1,
            "http.proxy.user": "u",
            "http.proxy.password": Secret("canary"),
        },
    ),
    (
        CASTORM + "http.response.list.order.direction=ASC",
        {"http.offset.order": "ASC"},
    ),
    (
        CASTORM + "http.response.list.order.direction=IMPLICIT",
        {"http.offset.order": "NONE"},
    ),
    ("pagination.type=PAGE_SIZE", {"pagination.type": "page"}),
    ("pagination.type=OFFSET_LIMIT", {"pagination.type": "offset"}),
    (
        "http.offset.mode=TIMESTAMP\nhttp.offset.json.pointer=a",
        {"http.offset.mode": "INCREMENTAL"},
    ),
    (
        "http.offset.mode=TIMESTAMP_PAGINATION\nhttp.timestamp.json.pointer=/a",
        {"http.offset.mode": "INCREMENTAL", "http.offset.json.pointer": "/a"},
    ),
    (
        "http.offset.mode=OFFSET",
        {"http.offset.mode": "FULL", "pagination.type": "offset"},
    ),
    (
        "http.offset.mode=PAGE",
        {"http.offset.mode": "FULL", "pagination.type": "page"},
    ),
    (
        "http.offset.mode=LINK_HEADER",
        {"http.offset.mode": "FULL", "pagination.type": "link_header"},
    ),
    (
        (
            "auth.type=OAUTH2\noauth2.client.id=i\noauth2.client.secret=canary\n"
            "oauth2.token.url=https://l.example.com/t\noauth2.client.mode=url"
        ),
        {"oauth2.client.auth.mode": "URL"},
    ),
    (
        CASTORM + "http.response.policy.codes.process=200..299\n"
        "http.response.policy.codes.skip=300..399,404",
        {
            "http.response.status.process": Codes(((200, 299),)),
            "http.response.status.empty": Codes(((300, 399), (404, 404))),
        },
    ),
    (
        "http.auth.type=jwt\nhttp.auth.oauth2.bearer.token=canary",
        {"bearer.token": Secret("canary")},
    ),
    (
        'http.source.method=POST\nhttp.request.body={\n"a": ${offset}\n}',
        {"http.source.body": '{\n"a": ${offset}\n}'},
    ),
    (
        V2 + "chaining.with.timestamp.mode=true\nhttp.offset.json.pointer=a",
        {"pagination.type": "keyset"},
    ),
    ("rate.limit.backoff.initial.ms=9", {"retry.backoff.ms": 9}),
    (
        "rate.limit.backoff.policy=constant-value",
        {"retry.backoff.policy": "CONSTANT_VALUE"},
    ),
    ("http.version=HTTP_2", {"http.client.http2.enabled": True}),
    ("http.version=HTTP_1_1", {"http.client.http2.enabled": False}),
    ("http.retry.max.attempts=4", {"max.retries": 3}),
    ("http.retry.enabled=false", {"max.retries": 0}),
    ("http.retry.max.attempts=4\nhttp.retry.enabled=false", {"max.retries": 0}),
    ("http.retry.enabled=true\nhttp.retry.max.attempts=4", {"max.retries": 3}),
    ("cache.l1.ttl.ms=2000", {"cache.l1.ttl.seconds": 2}),
    ("cache.response.ttl.ms=2000", {"cache.response.ttl.seconds": 2}),
    ("response.cache.ttl.ms=2000", {"cache.response.ttl.seconds": 2}),
    (
        "cache.warming.strategy=PREDICTIVE",
        {"cache.warming.strategies": ("PREDICTIVE",)},
    ),
    (
        "http.auth.type=jwt\nhttp.auth.jwt.token=canary",
        {"auth.type": "BEARER", "bearer.token": Secret("canary")},
    ),
    (
        "http.auth.type=api_key\nhttp.auth.api.key=canary\nhttp.auth.api.key.header=X",
        {
            "auth.type": "API_KEY",
            "api.key.value": Secret("canary"),
            "api.key.name": "X",
        },
    ),
    (
        (
            "http.auth.type=basic\nhttp.auth.basic.username=u\n"
            "http.auth.basic.password=canary"
        ),
        {"auth.type": "BASIC", "connection.user": "u"},
    ),
    (
        (
            "http.auth.type=oauth2\nhttp.auth.oauth2.client.id=i\n"
            "http.auth.oauth2.client.secret=canary\nhttp.auth.oauth2.scope=s\n"
            "http.auth.oauth2.token.url=https://l.example.com/t\n"
            "http.auth.oauth2.grant.type=client_credentials\n"
            "http.auth.oauth2.token.refresh.buffer.seconds=9"
        ),
        {
            "auth.type": "OAUTH2",
            "oauth2.client.id": "i",
            "oauth2.client.secret": Secret("canary"),
            "oauth2.client.scope": "s",
            "oauth2.token.url": "https://l.example.com/t",
            "oauth2.token.refresh.buffer.seconds": 9,
        },
    ),
    (
        (
            "http.auth.type=aws_iam\nhttp.auth.aws.region=eu-central-1\n"
            "http.auth.aws.access.key.id=AKIDEXAMPLE\n"
            "http.auth.aws.secret.access.key=canary"
        ),
        {"auth.type": "AWS_SIGV4"},
    ),
    ("http.auth.type=None", {"auth.type": "NONE"}),
    ("ssl.validation.level=STRICT", {"https.ssl.verify": True}),
    (
        "ssl.validation.level=RELAXED",
        {
            "https.ssl.verify": True,
            "https.ssl.endpoint.identification.algorithm": "none",
        },
    ),
    ("ssl.validation.level=DISABLED", {"https.ssl.verify": False}),
    (
        (
            "ssl.certificate.pinning.enabled=true\n"
            "ssl.certificate.pins=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        ),
        {
            "https.ssl.certificate.pins": (
                "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            )
        },
    ),
    (
        "partitioning.strategy=CONSISTENT_HASH\npartitioning.key.field=a.b",
        {"kafka.key": "${record.a.b}"},
    ),
    ("dlq.enabled=true\ndlq.topic.name=d", {"errors.tolerance": "all"}),
    (
        "dlq.topic.name=d\ndlq.enabled=false",
        {"errors.tolerance": "none", "errors.deadletterqueue.topic.name": None},
    ),
    ("health.check.port=9090", {"listeners": ("http://127.0.0.1:9090",)}),
    (
        "health.check.bind.address=0.0.0.0\nhealth.check.port=9090",
        {"listeners": ("http://0.0.0.0:9090",)},
    ),
    (
        "rest.port=8083\nrest.host.name=localhost",
        {"listeners": ("http://localhost:8083",)},
    ),
    ("rest.host.name=::1", {"listeners": ("http://[::1]:8080",)}),
    ("debug.logging.enabled=true", {"log.level": "DEBUG"}),
    ("debug.logging.enabled=false", {"log.level": "INFO"}),
    ("exactly.once.source.support=enabled", {"exactly.once.support": "requested"}),
    ("exactly.once.source.support=preparing", {"exactly.once.support": "requested"}),
    ("exactly.once.source.support=disabled", {"exactly.once.support": "disabled"}),
]

#: FreeMarker over a timestamp that records have at /t, and what it is here.
FREEMARKER = [
    ("${offset.timestamp}", "${instant(coalesce(last.t, '2020'))}"),
    ("${ timestamp }", "${instant(coalesce(last.t, '2020'))}"),
    ("${offset['timestamp']}", "${instant(coalesce(last.t, '2020'))}"),
    ('${offset["timestamp"]}', "${instant(coalesce(last.t, '2020'))}"),
    ("${offset.timestamp?datetime.iso?long}", "${epoch_ms(coalesce(last.t, '2020'))}"),
    (
        "${offset.timestamp?datetime.iso?long / 1000}",
        "${floor(epoch_ms(coalesce(last.t, '2020')) / 1000)}",
    ),
    (
        "${offset.timestamp?datetime.iso?string['yyyy/MM/dd HH:mm']}",
        "${format(coalesce(last.t, '2020'), 'yyyy/MM/dd HH:mm')}",
    ),
    (
        '${offset.timestamp?datetime.iso?string("yyyy")}',
        "${format(coalesce(last.t, '2020'), 'yyyy')}",
    ),
    ("${offset.timestamp?iso_utc}", "${instant(coalesce(last.t, '2020'))}"),
    ("${offset.key?url}", "${coalesce(last.k)}"),
    ("${offset.key?upper_case}", "${upper(coalesce(last.k))}"),
    ("${offset.key!'none'}", "${coalesce(coalesce(last.k), 'none')}"),
    ("${key?replace('a','b')}", "${replace(coalesce(last.k), 'a', 'b')}"),
    ("${offset.deep?number}", "${coalesce(last.a[0].'b c')}"),
    ("${api}", "${api}"),
]


@pytest.mark.parametrize(("theirs", "ours"), FREEMARKER)
def test_a_freemarker_template_is_ours(files: Files, theirs: str, ours: str) -> None:
    text = (
        f"{CASTORM}http.request.params=a={theirs}\nhttp.offset.initial=timestamp=2020\n"
        f"{RECORD}offset.pointer=key=/k, timestamp=/t, deep=/a/0/b c\n"
    )
    loaded = loaded_over(files, text)

    assert f"a={ours}" == value_of(loaded, "http.source.query.params")


def test_times_of_a_pattern_compare_as_times(files: Files) -> None:
    text = (
        f"{CASTORM}http.request.params=a=${{offset.timestamp}}\n"
        f"{RECORD}offset.pointer=key=/k, timestamp=/t\n"
        f"{RECORD}timestamp.parser.pattern=dd.MM.yyyy\n"
        f"{RECORD}timestamp.parser.zone=Europe/Berlin\n"
    )
    loaded = loaded_over(files, text)

    assert {
        "http.source.query.params": (
            "a=${instant(coalesce(parse(last.t, 'dd.MM.yyyy', 'Europe/Berlin')))}"
        ),
        "kafka.timestamp": "${parse(record.t, 'dd.MM.yyyy', 'Europe/Berlin')}",
        "http.offset.value.type": "timestamp",
        "http.offset.value.format": "dd.MM.yyyy",
        "http.offset.zone": "Europe/Berlin",
    } == {
        key: value_of(loaded, key)
        for key in (
            "http.source.query.params",
            "kafka.timestamp",
            "http.offset.value.type",
            "http.offset.value.format",
            "http.offset.zone",
        )
    }


def test_a_name_that_tells_ties_apart_is_no_bookmark(files: Files) -> None:
    for params, pointer in (
        ("a=${offset.timestamp}", "/t"),
        ("a=${offset.timestamp}&b=${offset.part}", "/p"),
        ("a=1", "/p"),
    ):
        text = (
            f"{CASTORM}http.request.params={params}\n"
            f"http.offset.initial=timestamp=2020\n"
            f"{RECORD}offset.pointer=key=/k, timestamp=/t, part=/p\n"
        )
        loaded = loaded_over(files, text)
        assert pointer == value_of(loaded, "http.offset.json.pointer")
        # The first value of a time is none of anything else.
        initial = "2020" if pointer == "/t" else None
        assert initial == value_of(loaded, "http.initial.offset")


def test_headers_of_castorm_have_templates_and_commas(files: Files) -> None:
    text = (
        f"{CASTORM}http.request.headers=Accept: a/b, X: 1\\\\, 2, Since: "
        "${offset.timestamp?datetime.iso?string['EEE, dd MMM yyyy HH:mm:ss']} GMT\n"
        f"{RECORD}offset.pointer=timestamp=/t\n"
    )
    loaded = loaded_over(files, text)

    assert (
        ("Accept", "a/b"),
        ("X", "1, 2"),
        ("Since", "${format(coalesce(last.t), 'EEE, dd MMM yyyy HH:mm:ss')} GMT"),
    ) == value_of(loaded, "http.source.headers")


@pytest.mark.parametrize(
    ("switch", "mode"),
    [
        ("enable.cursor.pagination.with.timestamp.mode", "CURSOR_PAGINATION"),
        ("chaining.with.timestamp.mode", "CHAINING"),
    ],
)
def test_windows_of_v2_carry_on_instead_of_a_mode(
    files: Files, switch: str, mode: str
) -> None:
    kind = "cursor" if "cursor" in switch else "keyset"
    text = (
        f"{V2}http.api.base.url=https://h.example.com\napi1.http.api.path=/x\n"
        "api1.topics=t\n"
        f"api1.http.offset.mode={mode}\napi1.{switch}=true\n"
        "api1.http.timestamp.interval=1\napi1.timestamp.interval.format=HOURS\n"
        "api1.initial.start.timestamp.value=2024-01-01T00:00:00Z\n"
        "api1.http.offset.json.pointer=/id\napi1.http.next.page.json.pointer=/next\n"
        "api1.http.request.parameters=a=${start_timestamp}&b=${endTime}&c=${offset}\n"
    )
    loaded = loaded_over(files, text)

    place = "${cursor}" if kind == "cursor" else "${offset}"
    assert {
        "http.offset.mode": "FULL",
        "pagination.type": kind,
        "http.source.window.size.seconds": 3600,
        "http.source.query.params": f"a=${{window.start}}&b=${{window.end}}&c={place}",
    } == {
        key: value_of(loaded, key)
        for key in (
            "http.offset.mode",
            "pagination.type",
            "http.source.window.size.seconds",
            "http.source.query.params",
        )
    }


VOID = [
    "https.ssl.enabled=true",
    "use.http.offset.json.pointer.as.string=true",
    "sensitive.headers.list=A",
    "sensitive.headers.validation.enabled=true",
    "https.ssl.provider=x",
    "https.ssl.keymanager.algorithm=x",
    "https.ssl.trustmanager.algorithm=x",
    "https.ssl.secure.random.implementation=x",
    "https.ssl.engine.factory.class=x",
    "https.ssl.keystore.password=canary",
    "confluent.license=x",
    "confluent.topic=x",
    "confluent.topic.bootstrap.servers=a:1",
    "http.timestamp.json.pointer=/a",
    "report.errors.as=x",
    "reporter.bootstrap.servers=x:1",
    "reporter.error.topic.replication.factor=1",
    "reporter.result.topic.name=x",
    "value.converter.decimal.format=NUMERIC",
    "value.converter.connect.meta.data=false",
    "value.converter.ignore.default.for.nullables=true",
    "value.converter.reference.subject.name.strategy=x",
    "datapreview.schemas.enable=true",
    "api1.test.api=x",
    "api1.should.add.start.delay=true",
    # Without a place of their time records are of now, and each poll has caught up.
    "http.timer.catchup.interval.millis=1",
    "http.timer=com.github.castorm.x.FixedIntervalTimer",
    "http.client=com.github.castorm.x.OkHttpClient",
    "http.auth=com.github.castorm.x.ConfigurableHttpAuthenticator",
    "http.request.factory=com.github.castorm.x.T",
    "http.request.template.factory=com.github.castorm.x.F",
    "http.response.parser=com.github.castorm.x.P",
    "http.response.policy=com.github.castorm.x.P",
    "http.response.policy.parser=com.github.castorm.x.P",
    "http.response.record.parser=com.github.castorm.x.P",
    "http.response.record.mapper=com.github.castorm.x.Simple",
    "http.throttler=com.github.castorm.x.T",
    "http.template.factory=com.github.castorm.x.T",
    "http.record.mapper=com.github.castorm.x.T",
    "http.record.sorter=com.github.castorm.x.S",
    "http.record.filter.factory=com.github.castorm.x.F",
    "rate.limit.backoff.multiplier=2",
    "cache.warming.strategy=SCHEDULED",
    "cache.auth.enabled=true",
    "cache.transformed.enabled=true",
    "cache.metadata.ttl=1",
    "cache.conditional.enabled=true",
    "cache.async.enabled=true",
    "http.auth.oauth2.token.refresh.enabled=true",
    "oauth2.token.refresh.interval.minutes=5",
    "http.auth.retry.max=3",
    "http.auth.rotation.enabled=true",
    "http.auth.clock.skew.tolerance.seconds=5",
    "auth.mode=CERTIFICATE",
    "ssl.enabled=true",
    "partitioning.strategy=ROUND_ROBIN",
    "odata.token.mode=FULL_URL",
    "odata.skiptoken.param=x",
    "odata.deltatoken.param=x",
    "odata.nextlink.poll.interval.ms=5",
    "circuit.breaker.timeout.ms=5",
    "circuit.breaker.half.open.max.calls=5",
    "health.check.path=/x",
    "health.check.endpoints=/x",
    "health.check.cors.enabled=true",
    "jmx.domain=x",
    "jmx.object.name=x",
    "transformation.template.enabled=true",
    "transformation.conditional.enabled=true",
    "transformation.math.enabled=true",
    "transformation.env.enabled=true",
    "plugin.path=/usr/share/java",
    "plugin.discovery=x",
    "config.storage.topic=x",
    "status.storage.topic=x",
    "connect.protocol=x",
    "scheduled.rebalance.max.delay.ms=5",
    "worker.sync.timeout.ms=5",
    "inter.worker.key.size=5",
    "rest.advertised.port=5",
    "offset.flush.timeout.ms=5",
    "connector.client.config.override.policy=All",
    "config.action.reload=restart",
    "tasks.max.enforce=true",
    "topic.tracking.enable=true",
    "consumer.fetch.min.bytes=5",
    "consumer.override.max.poll.records=5",
    "errors.retry.timeout=5",
    "key.converter.enhanced.avro.schema.support=true",
    "value.converter.whatever=5",
    "http.path.parameters.separator=;",
    "http.request.headers.separator=;",
    "http.request.parameters.separator=;",
    "timestamp.interval.format=DAYS",
    "http.timestamp.interval.format=DAYS",
    "ssl.certificate.pinning.enabled=true",
    "api.chaining.enabled=true",
    "api.chaining.method=GET",
    f"{RECORD}timestamp.parser=com.github.castorm.x.P",
]

REFUSED = [
    "transaction.boundary=connector",
    "pagination.type=CUSTOM",
    "http.offset.mode=HYBRID_PAGINATION",
    "https.ssl.protocol=TLSv1.1",
    "kafka.auth.mode=KAFKA_API_KEY",
    "kafka.api.key=canary",
    "kafka.api.secret=canary",
    "kafka.service.account.id=x",
    "oauth2.jwt.enabled=true",
    "gcp.credentials.json={}",
    "csfle.enabled=true",
    "sr.service.account.id=x",
    "schema.context.name=x",
    "api1.http.response.schema.enforce=STRICT",
    CASTORM + "http.request.url=https://h/<#if x>",
    CASTORM + "http.request.params=a=${offset.x!1}",
    CASTORM + f"{RECORD}offset.pointer=x=/x\nhttp.request.params=a=${{offset.x?api}}",
    CASTORM + "http.request.params=a=${now?string}",
    CASTORM + f"{RECORD}timestamp.parser.regex=x\n{RECORD}timestamp.pointer=/a",
    CASTORM
    + f"{RECORD}timestamp.parser=com.example.Mine\n{RECORD}timestamp.pointer=/a",
    "http.timer=com.example.Mine",
    "http.response.record.mapper=com.github.castorm.x.SchemedKvSourceRecordMapper",
    "http.record.schema.key.property.name=x",
    "ratelimit.schedule.enabled=true",
    "ratelimit.per.host.enabled=true",
    "rate.limiting.nonsense=1",
    "cache.l1.ttl.ms=1500",
    "http.auth.type=vault",
    "http.auth.type=azure_ad",
    "http.auth.jwt.header=X",
    "http.auth.jwt.prefix=X",
    "http.auth.vault.address=x",
    "http.auth.azure.tenant=x",
    "auth.vault.token=canary",
    "auth.aws.role=x",
    "auth.azure.tenant=x",
    "auth.mfa.enabled=true",
    "http.auth.aws.assume.role.arn=x",
    "odata.token.mode=TOKEN_ONLY",
    "dlq.max.retries=3",
    "error.network.action=RETRY",
    "log4j.logger.x=DEBUG",
    "debug.log.requests=true",
    "field.encryption.enabled=true",
    "adaptive.polling.enabled=true",
    "openapi.url=x",
    "operational.mode=x",
    "config.validation.mode=x",
    "transforms=a",
    "transforms.a.type=org.apache.kafka.connect.transforms.Cast$Value",
    "predicates=p",
    "predicates.p.type=x",
    "producer.transactional.id=x",
    "producer.key.serializer=x",
    "producer.override.value.serializer=x",
    "producer.partitioner.class=x",
]


def loaded_over(files: Files, text: str, **options: Any) -> Loaded:
    """`text` over a base that leaves URL and topic to it where it has its own."""
    lines = "bootstrap.servers=127.0.0.1:9092\n"
    names = [line.partition("=")[0] for line in text.splitlines()]
    if not {"url", "http.request.url", "http.api.path"} & set(names):
        lines += "http.source.url=https://api.example.com/v1\n"
    if not {"topic.name.pattern", "topics"} & set(names):
        lines += "kafka.topic=things\n"
    return load([files.write(lines, "base.properties"), files.write(text)], **options)


def value_of(loaded: Loaded, key: str) -> Any:
    connector = loaded.connectors[0]
    for values in (connector.apis[0].values, connector.values, loaded.process):
        if key in values:
            return values[key]
    raise KeyError(key)


@pytest.mark.parametrize(
    ("theirs", "ours", "text", "value"), ALIASES, ids=[a[0] for a in ALIASES]
)
def test_an_alias_is_our_key_and_is_said(
    files: Files, theirs: str, ours: str, text: str, value: Any
) -> None:
    loaded = loaded_over(files, f"{theirs}={text}\n")

    assert value == value_of(loaded, ours)
    said = [f for f in loaded.findings if "notice" == f.severity and f.key == theirs]
    assert 1 == len(said)
    assert ours in said[0].message


@pytest.mark.parametrize(
    ("theirs", "ours", "text"), [a[:3] for a in ALIASES], ids=[a[0] for a in ALIASES]
)
def test_an_alias_and_our_key_together_are_an_error(
    files: Files, theirs: str, ours: str, text: str
) -> None:
    errors = files.errors(f"{theirs}={text}\n{ours}={text}\n")

    assert any(theirs == f.key and ours in f.message for f in errors)


@pytest.mark.parametrize(
    ("text", "values"), CONVERTED, ids=[text.split("\n")[-1] for text, _ in CONVERTED]
)
def test_a_converted_key_gives_what_it_means(
    files: Files, text: str, values: dict[str, Any]
) -> None:
    loaded = loaded_over(files, text + "\n")

    assert values == {key: value_of(loaded, key) for key in values}
    assert "canary" not in repr(loaded.findings)


@pytest.mark.parametrize("line", VOID)
def test_a_void_key_is_one_warning_without_effect(files: Files, line: str) -> None:
    loaded = loaded_over(files, line + "  # with a comment\n")

    said = [f for f in loaded.findings if f.key == line.partition("=")[0]]
    assert ["warning"] == [f.severity for f in said]
    assert said[0].message.startswith("no effect here: ")
    assert "canary" not in repr(loaded.findings)
    key = line.partition("=")[0].removeprefix("api1.")
    assert not any(
        values.stated(key)
        for c in loaded.connectors
        for values in (c.values, *(api.values for api in c.apis))
    )


@pytest.mark.parametrize("text", REFUSED, ids=[t.split("\n")[-1] for t in REFUSED])
def test_a_refused_key_says_why(files: Files, text: str) -> None:
    errors = files.errors(text + "\n")

    assert any("refused" in f.message for f in errors), errors
    assert "canary" not in repr(errors)


def test_the_three_lines_instead_of_a_cloud_login(files: Files) -> None:
    (error,) = files.errors("kafka.api.key=x\n")

    for key in ("bootstrap.servers", "security.protocol", "sasl.jaas.config"):
        assert key in error.message


def test_a_smt_is_refused_naming_ours(files: Files) -> None:
    prefix = "org.apache.kafka.connect.transforms."
    for name, ours in (
        ("Cast$Value", "field.mappings"),
        ("ReplaceField$Value", "field.mappings"),
        ("InsertField$Value", "enrichment"),
        ("Filter", "filter.expressions"),
        ("InsertHeader", "kafka.headers"),
        ("RegexRouter", "kafka.topic"),
        ("TimestampRouter", "kafka.topic"),
        ("ValueToKey", "kafka.key"),
        ("MaskField$Value", "mask()"),
    ):
        (error,) = files.errors(f"transforms.a.type={prefix}{name}\n")
        assert ours in error.message


def test_relations_name_parents(files: Files) -> None:
    """Two colons: the parent stands first; one: the child does."""
    apis = (
        V2 + "api1.kafka.topic=a\napi2.kafka.topic=b\n"
        "api2.api.chaining.extract.field=id\n"
        "api.chaining.parent.child.relationship="
    )
    for text in ("api1::api2", "api2:api1"):
        one, two = files.load(apis + text).connectors[0].apis

        assert (None, "api1") == (
            one.values["api.chaining.parent"],
            two.values["api.chaining.parent"],
        )


def test_a_chained_request_becomes_a_second_api(files: Files) -> None:
    text = (
        "api.chaining.enabled=true\napi.chaining.method=POST\n"
        "api.chaining.url.template=https://h.example.com/{user.id}/x\n"
        "api.chaining.extract.field=user.id\n"
    )
    one, two = files.load(text).connectors[0].apis

    assert "https://api.example.com/v1/things" == one.values["http.source.url"]
    assert "https://h.example.com/${parent.user.id}/x" == two.values["http.source.url"]
    assert ("api1", "POST", "user.id") == (
        two.values["api.chaining.parent"],
        two.values["http.source.method"],
        two.values["api.chaining.extract.field"],
    )


def test_prefixes_carry_over(files: Files) -> None:
    text = "api1.topics=a\napi2.topics=b\napi2.http.request.headers=A:b|C:d\n"
    one, two = files.load("kafka.topic=\n" + text).connectors[0].apis

    assert ["a", "b"] == [api.values["kafka.topic"] for api in (one, two)]
    assert (("A", "b"), ("C", "d")) == two.values["http.source.headers"]


def test_a_certificate_of_the_client_is_a_keystore(files: Files) -> None:
    files.write(PEM, "c.pem")
    for theirs in (
        "oauth2.client.certificate.path",
        "https.ssl.keystorefile",
        "http.client.keystore",
    ):
        loaded = loaded_over(files, f"{theirs}=c.pem\n")

        path = value_of(loaded, "https.ssl.keystore.location")
        assert files.directory / "c.pem" == path


def test_schemas_and_key_passwords_have_other_names(files: Files) -> None:
    files.write("x", "s.desc")
    loaded = loaded_over(
        files,
        "protobuf.schema.file=s.desc\noauth2.client.certificate.password=canary\n",
    )

    assert files.directory / "s.desc" == value_of(loaded, "value.schema.file")
    assert Secret("canary") == value_of(loaded, "https.ssl.key.password")
    files.write(PEM, "t.pem")
    loaded = loaded_over(files, "https.ssl.truststorefile=t.pem\n")
    path = value_of(loaded, "https.ssl.truststore.location")
    assert files.directory / "t.pem" == path


def test_an_inline_comment_behind_a_foreign_key_follows_our_kind(files: Files) -> None:
    loaded = loaded_over(files, "pagination.page.size=9  # nine\n")
    assert 9 == value_of(loaded, "pagination.limit.value")

    (error,) = files.errors("http.request.headers=A:b  # c\n")
    assert "line of its own" in error.message


def test_sensitive_headers_never_show(files: Files) -> None:
    loaded = loaded_over(files, "http.request.sensitive.headers=X-Plain: canary-1\n")

    from_show = explain("http.request.sensitive.headers")
    assert "secret" in from_show
    assert "canary" not in repr(loaded.findings)


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.convert is None and "alias" != row.action],
    ids=lambda row: row.theirs,
)
def test_every_void_and_refused_row_does_what_it_says(files: Files, row: Row) -> None:
    line = f"{row.theirs.replace('*', 'x')}=canary\n"

    if row.action == "refused":
        (error,) = files.errors(line)
        assert row.note in error.message
    else:
        (said,) = files.load(line).findings
        assert ("warning", f"no effect here: {row.note}") == (
            said.severity,
            said.message,
        )


def test_every_alias_and_conversion_is_tried_here() -> None:
    """A row that nothing above looks at would be a promise nobody keeps."""
    texts = [text for text, _ in CONVERTED] + VOID + REFUSED
    here = "\n".join([Path(__file__).read_text(), *texts])
    untried = {
        row.theirs
        for row in ROWS
        if row.action in ("alias", "converted")
        and row.theirs.partition("*")[0] not in here
    }

    # Siblings of ones that are tried, made in the same loop or by the same call.
    assert untried <= {
        "cache.schema.ttl.ms",
        "cache.l2.ttl.ms",
        "cache.l3.ttl.ms",
        "http.timestamp.interval.format",
    }


@pytest.mark.parametrize("row", ROWS, ids=[row.theirs for row in ROWS])
def test_explain_knows_every_foreign_key(row: Any) -> None:
    name = row.theirs.replace("*", "x")

    text = explain(name)
    assert text.startswith(name)
    assert "unknown key" not in text


PEM = (
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
)
