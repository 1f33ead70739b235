"""Rules that join keys: errors, warnings, and what is merely worth knowing."""

from __future__ import annotations

import pytest

from engine.config import ConfigError, endpoints, load, memory
from tests.config.conftest import BASE, Files

WINDOW = "http.source.window.size.seconds=60\n"
JAAS = (
    'x.PlainLoginModule required username="u" password="canary";'.replace(
        "x.", "org.apache.kafka.common.security.plain."
    )
    + "\n"
)
OAUTH = (
    "auth.type=OAUTH2\noauth2.client.id=i\noauth2.client.secret=canary\n"
    "oauth2.token.url="
)
REGISTRY = "value.converter.schema.registry.url=https://r.example.com\n"

#: A document, the key that is to blame, a word of the message.
ERRORS = [
    ("pagination.type=cursor", "pagination.cursor.field", "required"),
    ("pagination.type=next_url", "pagination.cursor.field", "required"),
    ("http.offset.mode=CURSOR_PAGINATION", "pagination.cursor.field", "required"),
    ("http.offset.mode=CHAINING", "http.offset.json.pointer", "required"),
    ("http.offset.mode=INCREMENTAL", "http.offset.json.pointer", "required"),
    ("http.offset.mode=SNAPSHOT_PAGINATION", "http.offset.json.pointer", "required"),
    ("pagination.type=keyset", "http.offset.json.pointer", "required"),
    ("http.offset.mode=SNAPSHOT_DIFF", "kafka.key", "required"),
    (
        'kafka.tombstone.condition={"field":"a","operator":"EXISTS"}',
        "kafka.key",
        "kafka.tombstone.condition",
    ),
    (
        "http.offset.mode=SNAPSHOT_DIFF\nkafka.key=a\ndeduplication.enabled=true",
        "deduplication.enabled",
        "SNAPSHOT_DIFF",
    ),
    ("kafka.key=${parent.id}", "kafka.key", "api.chaining.parent"),
    ("kafka.key=${parent_value}", "kafka.key", "api.chaining.parent"),
    ("kafka.key=${entityName}", "kafka.key", "entity.names"),
    (
        "http.source.headers=A:${entityName}",
        "http.source.headers",
        "entity.names",
    ),
    (
        "http.source.query.params=a=${window.start}",
        "http.source.query.params",
        "window.size",
    ),
    (
        'transformation.enrichment.rules=[{"field":"a","expression":"${parent.b}"}]',
        "transformation.enrichment.rules",
        "api.chaining.parent",
    ),
    *(
        (
            f"http.source.poll.catchup.interval.ms=500\n{keys}",
            f"http.source.poll.{key}",
            words,
        )
        for keys, key, words in (
            ("http.source.poll.schedule=@hourly", "schedule", "leave one of them out"),
            ("http.offset.mode=FULL", "catchup.interval.ms", "reads everything"),
            (
                "http.offset.mode=SNAPSHOT_DIFF\nkafka.key=${record.id}",
                "catchup.interval.ms",
                "SNAPSHOT_DIFF reads everything",
            ),
            (
                (
                    "http.source.window.size.seconds=600\n"
                    "http.source.window.start=2024-01-01T00:00:00Z\n"
                    "http.source.query.params=f=${window.start}&t=${window.end}"
                ),
                "catchup.interval.ms",
                "all windows that are due",
            ),
        )
    ),
    (
        "http.source.poll.schedule=@hourly\nhttp.source.poll.interval.ms=5000",
        "http.source.poll.schedule",
        "leave one",
    ),
    ("http.source.body={}", "http.source.body", "GET"),
    (
        "http.source.body={}\nhttp.source.method=DELETE",
        "http.source.body",
        "DELETE",
    ),
    ("http.source.url=https://${api}.example.com/", "http.source.url", "host"),
    ("http.source.url=https://h:${api}/", "http.source.url", "host"),
    ("http.source.url=${api}://h/", "http.source.url", "host"),
    ("http.source.url=/relative", "http.source.url", "http.api.base.url"),
    (
        "http.source.url=https://h.example.com/${entityName}\nentity.names=a,b,a",
        "entity.names",
        "a: named more than once",
    ),
    ("connection.user=u", "connection.user", "BASIC"),
    ("auth.type=BEARER\nbearer.token=canary\nconnection.user=u", "connection.user", "BASIC"),
    ("auth.type=BASIC", "connection.password", "required"),
    ("auth.type=BEARER", "bearer.token", "required"),
    ("auth.type=API_KEY", "api.key.value", "required"),
    ("auth.type=OAUTH2", "oauth2.token.url", "required"),
    ("auth.type=AWS_SIGV4", "http.auth.aws.region", "required"),
    (OAUTH + "http://login.example.com/t", "oauth2.token.url", "https"),
    (
        OAUTH + "https://l.example.com/t\noauth2.grant.type=refresh_token",
        "oauth2.refresh.token",
        "required",
    ),
    (
        "auth.type=BEARER\nbearer.token=canary\nhttp.auth.class=a:B",
        "http.auth.class",
        "another way",
    ),
    ("exactly.once.support=required\nproducer.acks=1", "producer.acks", "all"),
    (
        "exactly.once.support=required\nproducer.enable.idempotence=false",
        "producer.enable.idempotence",
        "true",
    ),
    (
        "exactly.once.support=required\nproducer.max.in.flight.requests.per.connection=6",
        "producer.max.in.flight.requests.per.connection",
        "at most 5",
    ),
    (
        "exactly.once.support=required\noffset.storage.file.filename=x",
        "offset.storage.file.filename",
        "topic",
    ),
    (
        "producer.enable.idempotence=true\nproducer.acks=1",
        "producer.enable.idempotence",
        "acks=all",
    ),
    ("producer.transaction.timeout.ms=900001", "producer.transaction.timeout.ms", "900000"),
    ("producer.transaction.timeout.ms=50000", "producer.transaction.timeout.ms", "50000"),
    ("producer.delivery.timeout.ms=15004", "producer.delivery.timeout.ms", "15005"),
    (
        "producer.override.delivery.timeout.ms=15004",
        "producer.override.delivery.timeout.ms",
        "15005",
    ),
    ("producer.batch.size=1048577", "producer.batch.size", "max.request.size"),
    (
        ("producer.buffer.memory=1048576\nproducer.batch.size=2000000\n"
        "producer.max.request.size=3000000"),
        "producer.batch.size",
        "buffer.memory",
    ),
    (
        "producer.buffer.memory=1048576\ntransformation.max.record.size.bytes=1048577",
        "transformation.max.record.size.bytes",
        "buffer.memory",
    ),
    ("errors.deadletterqueue.topic.name=things", "kafka.topic", "dead letter"),
    ("offsets.storage.topic=things", "kafka.topic", "state"),
    ("group.id=things\ngroup.tasks.topic=things", "kafka.topic", "group"),
    (
        "errors.deadletterqueue.topic.name=s\noffsets.storage.topic=s",
        "errors.deadletterqueue.topic.name",
        "state",
    ),
    (
        "name=things\nerrors.deadletterqueue.topic.name=${connector}",
        "kafka.topic",
        "dead letter",
    ),
    ("kafka.topic=" + "x" * 250, "kafka.topic", "249"),
    ("kafka.topic=a/b", "kafka.topic", "A-Z"),
    ("kafka.topic=..", "kafka.topic", "no topic"),
    (
        "auto.scaling.min.tasks=3\nauto.scaling.max.tasks=2",
        "auto.scaling.max.tasks",
        "below",
    ),
    (
        "auto.scaling.scale.down.threshold.throughput=501",
        "auto.scaling.scale.down.threshold.throughput",
        "half",
    ),
    (
        "cache.auto.tuning.enabled=true\ncache.statistics.enabled=false",
        "cache.auto.tuning.enabled",
        "statistics",
    ),
    ("pagination.type=custom", "pagination.type", "refused"),
    ("http.offset.mode=CHAINING\npagination.type=page", "pagination.type", "goes with"),
    (
        "http.offset.mode=SIMPLE_INCREMENTING\npagination.type=page",
        "pagination.type",
        "goes with",
    ),
    (WINDOW, "http.source.window.start", "required"),
    (
        WINDOW + "http.source.window.start=2024-01-01\nhttp.offset.mode=CHAINING\n"
        "http.offset.json.pointer=a",
        "http.source.window.size.seconds",
        "FULL",
    ),
    ("http.source.window.start=2024-01-01", "http.source.window.start", "size"),
    ("api.chaining.parent=nobody", "api.chaining.parent", "no api"),
    (
        (
            "api1.api.name=customers\napi2.api.chaining.parent=customers\n"
            "api2.api.chaining.extract.field=id\napi2.http.source.url=https://a.b/c\n"
            "api2.http.offset.mode=SNAPSHOT_DIFF\napi2.kafka.key=${record.id}"
        ),
        "api2.http.offset.mode",
        "the list of one of customers may be on another's. Instead: ",
    ),
    ("value.converter=AvroConverter", "value.converter.schema.registry.url", "required"),
    (
        REGISTRY + "value.converter=ProtobufConverter",
        "value.schema.message",
        "descriptor",
    ),
    ("http.proxy.host=p", "http.proxy.port", "required"),
    ("http.proxy.port=1", "http.proxy.port", "needs"),
    ("security.protocol=SASL_SSL", "sasl.jaas.config", "required"),
    ("sasl.mechanism=PLAIN", "sasl.mechanism", "does not log in"),
    (
        "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\nsasl.jaas.config=" + JAAS,
        "sasl.jaas.config",
        "clientId",
    ),
    (
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.jaas.config=nonsense",
        "sasl.jaas.config",
        "login module",
    ),
    ("ssl.key.password=canary", "ssl.key.password", "https.ssl"),
    ("https.ssl.keystore.key=canary", "https.ssl.keystore.key", "PEM"),
    ("https.ssl.truststore.type=JKS", "https.ssl.truststore.type", "keytool"),
    ("https.ssl.truststore.location=nothing.pem", "https.ssl.truststore.location", "no such"),
    ("https.ssl.enabled.protocols=TLSv1.1", "https.ssl.enabled.protocols", "older"),
    ("http.source.headers=Accept-Encoding:lzma", "http.source.headers", "lzma"),
    ("session.timeout.ms=3000", "heartbeat.interval.ms", "session.timeout"),
    ("topic.creation.groups=g", "topic.creation.groups", "include"),
    ("topic.creation.g.include=x", "topic.creation.g.include", "groups"),
    ("topic.creation.default.partitions=0", "topic.creation.default.partitions", "0"),
    (
        "transformation.field.mappings=[{}]",
        "transformation.field.mappings",
        "rule 0: source is missing",
    ),
]  # fmt: skip

#: A document, the key that is warned of, a word of the message.
WARNINGS = [
    ("kafka.timestamp=${record.at}", "kafka.timestamp", "retention.ms"),
    ("kafka.timestamp=${coalesce(at, now)}", "kafka.timestamp", "retention.ms"),
    ("http.snapshot.max.fall=0.1", "http.snapshot.max.fall", "SNAPSHOT_DIFF"),
    ("pagination.max.pages=5", "pagination.max.pages", "nothing pages"),
    ("http.source.query.params=a=${last.id}", "http.source.query.params", "keyset"),
    (
        "pagination.type=page\npagination.page.start=2\nhttp.source.query.params=page=1",
        "http.source.query.params",
        "pagination.page.start",
    ),
    (
        "pagination.type=offset\npagination.limit.value=9\nhttp.source.query.params=limit=5",
        "http.source.query.params",
        "pagination.limit.value",
    ),
    (
        "exactly.once.support=disabled\ntransaction.boundary=poll",
        "transaction.boundary",
        "without effect",
    ),
    (
        "exactly.once.support=requested\nproducer.acks=1",
        "producer.acks",
        "at least once",
    ),
    (
        "exactly.once.support=requested\noffset.storage.file.filename=x",
        "offset.storage.file.filename",
        "at least once",
    ),
    ("kafka.key=${a-b}", "kafka.key", "a - b"),
    ("kafka.headers=h:${record.a-b}", "kafka.headers", "a - b"),
    (
        'transformation.enrichment.rules=[{"field":"e","expression":"${x + a-b}"}]',
        "transformation.enrichment.rules",
        "record.'a-b'",
    ),
    (
        "http.client.connection.timeout.ms=70000",
        "http.client.connection.timeout.ms",
        "smaller one",
    ),
    ("http.client.socket.timeout.ms=70000", "http.client.socket.timeout.ms", "smaller"),
    (
        "http.client.max.connections.per.route=21",
        "http.client.max.connections.per.route",
        "smaller",
    ),
    ("tasks.max=2", "tasks.max", "more tasks than shards"),
    ("rate.limit.requests.per.second=5", "rate.limit.requests.per.second", "false"),
    (
        ("rate.limit.enabled=true\nrate.limit.algorithm=FIXED_WINDOW\n"
        "rate.limit.burst.capacity=3"),
        "rate.limit.burst.capacity",
        "does not use",
    ),
    ("cache.warming.enabled=true\ncache.enabled=false", "cache.enabled", "warm"),
    ("cache.response.ttl.seconds=61", "cache.response.ttl.seconds", "late"),
    (
        "http.source.url=http://api.example.com/\nauth.type=BEARER\nbearer.token=canary",
        "http.source.url",
        "unencrypted",
    ),
    ("errors.tolerance=all", "errors.tolerance", "log"),
    (
        "topic.creation.default.partitions=1\ntasks.max=2\nentity.names=a,b",
        "topic.creation.default.partitions",
        "tasks.max",
    ),
    ("cache.l1.ttl.seconds=5000", "cache.l1.ttl.seconds", "cut to"),
    ("jmx.metrics.detailed=true", "jmx.metrics.detailed", "jmx.enabled"),
    ("https.ssl.verify=false", "https.ssl.verify", "not checked"),
    (
        "https.ssl.endpoint.identification.algorithm=",
        "https.ssl.endpoint.identification.algorithm",
        "not checked",
    ),
    (
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=" + JAAS,
        "security.protocol",
        "unencrypted",
    ),
    ("bootstrap.servers=embedded", "bootstrap.servers", "trial"),
    (
        "http.source.url.pattern=https://other.example.com/*",
        "http.source.url.pattern",
        "selects none",
    ),
    (
        "health.check.cache.hit.ratio.threshold=0.5\ncache.statistics.enabled=false",
        "health.check.cache.hit.ratio.threshold",
        "not judged",
    ),
    (
        "http.source.headers=Accept-Encoding:gzip\nhttp.client.compression.enabled=false",
        "http.source.headers",
        "Accept-Encoding",
    ),
    ("transaction.boundary.interval.ms=5", "transaction.boundary.interval.ms", "interval"),
]  # fmt: skip

#: What is right, and must not be warned of.
FINE = [
    "kafka.timestamp=${now}",
    "kafka.timestamp=${now - 5m}",
    "kafka.timestamp=${at}\ntopic.creation.default.retention.ms=-1",
    "kafka.timestamp=${at}\ntopic.creation.default.cleanup.policy=compact",
    "kafka.timestamp=${at}\ntopic.creation.default.message.timestamp.type=LogAppendTime",
    "kafka.timestamp=${at}\ntopic.creation.enable=false",
    "pagination.type=cursor\npagination.cursor.field=next",
    "http.source.url=http://127.0.0.1:8099/x\nauth.type=BEARER\nbearer.token=t",
    (
        "http.source.url=http://localhost/x\nauth.type=BASIC\nconnection.user=u\n"
        "connection.password=p"
    ),
    (
        "http.auth.class=requests.auth:HTTPDigestAuth\nconnection.user=u\n"
        "connection.password=p"
    ),
    (
        "apis.num=2\napi1.http.auth.class=requests.auth:HTTPDigestAuth\n"
        "connection.user=u\nconnection.password=p\napi2.auth.type=NONE"
    ),
    (
        "apis.num=2\napi1.http.auth.class=requests.auth:HTTPDigestAuth\n"
        "connection.user=u\nconnection.password=p\napi2.http.source.url=https://h.example.com/b"
    ),
    (
        "apis.num=2\napi1.auth.type=NONE\napi2.http.source.url=https://h.example.com/b\n"
        "api2.auth.type=BASIC\n"
        "connection.user=u\nconnection.password=p"
    ),
    "http.source.url=v1/x\nhttp.api.base.url=https://h.example.com/",
    "http.source.url=/x?a=${offset}\nhttp.api.base.url=https://h.example.com/",
    "http.source.url=https://h.example.com/${entityName}\nentity.names=a,b\ntasks.max=2",
    "exactly.once.support=disabled\nproducer.acks=1",
    "exactly.once.support=disabled\noffset.storage.file.filename=x",
    "transaction.boundary=interval",
    "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config="
    + JAAS,
    "http.source.poll.schedule=@hourly\nhttp.source.query.params=d=${date:yyyy-MM-dd}",
    "http.source.headers=Accept-Encoding:gzip;q=1, identity",
]


@pytest.mark.parametrize(("text", "key", "word"), ERRORS, ids=[e[0] for e in ERRORS])
def test_keys_that_do_not_go_together(
    files: Files, text: str, key: str, word: str
) -> None:
    errors = files.errors(text + "\n")

    assert any(key == f.key and word in f.message for f in errors), errors
    assert "canary" not in repr(errors)


@pytest.mark.parametrize(
    ("text", "key", "word"), WARNINGS, ids=[w[0] for w in WARNINGS]
)
def test_what_is_warned_of(files: Files, text: str, key: str, word: str) -> None:
    found = files.load(text + "\n").findings

    warned = [f for f in found if f.severity == "warning"]
    assert any(key == f.key and word in f.message for f in warned), found
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("text", "key", "word"),
    [
        ("pagination.type=keyset\nhttp.offset.json.pointer=n\nhttp.source.query.params=cursor=1", "http.source.query.params", "'1' is sent first"),
        ("pagination.type=keyset\nhttp.offset.json.pointer=n\nhttp.source.query.params=limit=5", "http.source.query.params", "with each page"),
        ("pagination.type=odata", "pagination.type", "deltaLink"),
        ("pagination.concurrent.max.threads=11", "pagination.concurrent.max.threads", "per.route=10"),
        ("http.client.connection.keep.alive.duration.ms=300001", "http.client.connection.keep.alive.duration.ms", "idle.time.ms=300000"),
        ("http.client.connection.max.idle.time.ms=600000", "http.client.connection.max.idle.time.ms", "duration.ms=300000"),
        ("transformation.max.record.size.bytes=2000000", "transformation.max.record.size.bytes", "max.request.size=1048576"),
        ("pagination.type=page", "pagination.type", "skips and repeats"),
        ("value.converter=JsonConverter", "value.converter", "true in Kafka Connect"),
        ("listeners=http://0.0.0.0:80", "listeners", "read-only"),
        ("producer.acks=1", "producer.acks", "at least once"),
        ("producer.acks=0\nproducer.enable.idempotence=false", "producer.acks", "at least once"),
        ("producer.enable.idempotence=false", "producer.enable.idempotence", "at least once"),
        ("producer.max.in.flight.requests.per.connection=6", "producer.max.in.flight.requests.per.connection", "at most 5"),
        ("offset.storage.file.filename=x", "offset.storage.file.filename", "at least once"),
    ],
)  # fmt: skip
def test_what_is_worth_knowing(files: Files, text: str, key: str, word: str) -> None:
    found = [f for f in files.load(text + "\n").findings if f.severity == "notice"]

    assert [key] == [f.key for f in found]
    assert word in found[0].message


@pytest.mark.parametrize("text", FINE)
def test_what_is_right_is_not_talked_about(files: Files, text: str) -> None:
    loaded = files.load(text + "\n")

    assert not [f for f in loaded.findings if "available" not in f.message]


def test_what_is_missing_is_named_with_the_file(files: Files) -> None:
    path = files.write("name=a\nbootstrap.servers=127.0.0.1:9092\n")
    with pytest.raises(ConfigError) as caught:
        load([path])

    found = [(f.file, f.key) for f in caught.value.findings]
    assert [(str(path), "http.source.url"), (str(path), "kafka.topic")] == found


def test_a_value_that_cannot_be_read_is_not_missing_on_top_of_it(files: Files) -> None:
    (error,) = files.errors("kafka.topic=a b\n")

    assert "allowed" in error.message


PEM_KEY = (
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    "-----BEGIN {}PRIVATE KEY-----\nAAAA\n-----END {}PRIVATE KEY-----\n"
)


def test_stores_are_pem_files(files: Files) -> None:
    line = "https.ssl.keystore.location={}\n"
    good = files.write(PEM_KEY.format("", ""), "good.pem")
    files.write(PEM_KEY.format("ENCRYPTED ", "ENCRYPTED "), "locked.pem")
    files.write(b"\xfe\xed\xfe\xed\0\0\0\2", "store.jks")
    files.write(b"\x30\x82\x01\x01", "store.bin")
    files.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "c.pem")

    assert () == files.load(line.format("good.pem")).findings
    for name, word in (
        ("locked.pem", "encrypted"),
        ("store.jks", "keytool"),
        ("store.bin", "openssl"),
        ("c.pem", "no private key"),
        ("none.pem", "no such file"),
    ):
        errors = files.errors(line.format(name))
        assert any(word in error.message for error in errors), errors
    files.load(line.format("locked.pem") + "https.ssl.key.password=x\n")
    good.chmod(0o644)
    (found,) = files.load(line.format("good.pem")).findings
    assert "others can read" in found.message


def test_pem_text_comes_in_pairs(files: Files) -> None:
    pem = files.write(PEM_KEY.format("", ""), "good.pem")
    key = "https.ssl.keystore.key=${file:good.pem}\n"
    chain = "https.ssl.keystore.certificate.chain=${file:good.pem}\n"

    loaded = files.load(key + chain)
    values = loaded.connectors[0].apis[0].values
    assert pem.read_text()[:-1] == values["https.ssl.keystore.key"].reveal()
    (error,) = files.errors(key)
    assert "https.ssl.keystore.certificate.chain" == error.key


CHAIN = (
    "kafka.topic=\napi1.api.name=p\napi2.kafka.topic=t\n"
    "api2.api.chaining.parent=p\napi2.api.chaining.extract.field=id\n"
    "api2.http.source.url=https://h.example.com/${parent_value}\n"
)


@pytest.mark.parametrize(
    ("pointer", "meant"),
    [("/':created_at'", "/:created_at"), ("/a/'b c'/0", "/a/b c/0"),
     ("/created", ""), ("':created_at'", ""), ("/it's", "")],
)  # fmt: skip
def test_quotes_in_a_json_pointer_are_told_of(
    files: Files, pointer: str, meant: str
) -> None:
    text = f"http.offset.mode=CHAINING\nhttp.offset.json.pointer={pointer}\n"
    told = [
        f.message
        for f in files.load(text).findings
        if f.key == "http.offset.json.pointer"
    ]
    assert [True] * bool(meant) == [each.endswith(f"write {meant}") for each in told]


def test_a_child_without_state_has_no_position_to_go_on_from(files: Files) -> None:
    none = f"{CHAIN}api2.api.chaining.state=NONE\n"
    files.load(none)

    mode = "api2.http.offset.mode=INCREMENTAL\napi2.http.offset.json.pointer=n\n"
    found = {f.key: f.message for f in files.errors(none + mode)}
    assert "no position" in found["api2.api.chaining.state"]

    polls = files.load(f"{none}api2.api.chaining.state.polls=5\n").findings
    assert ["not used"] == [
        f.message.partition(":")[0]
        for f in polls
        if f.key == "api2.api.chaining.state.polls"
    ]


def test_the_state_topic_takes_any_setting_of_a_topic_but_its_policy(
    files: Files,
) -> None:
    text = "offset.storage.segment.bytes=2097152\noffset.storage.retention.ms=-1\n"
    values = files.load(text).connectors[0].values

    assert 2097152 == values["offset.storage.segment.bytes"]
    assert "-1" == values["offset.storage.retention.ms"]
    for wrong in ("cleanup.policy=delete", "segment.byte=1", "segment.bytes=much"):
        (error,) = files.errors(f"offset.storage.{wrong}")
        assert error.key.startswith("offset.storage.")


def test_a_parent_needs_no_topic(files: Files) -> None:
    text = (
        "kafka.topic=\napi1.api.name=p\napi2.kafka.topic=t\n"
        "api2.api.chaining.parent=p\napi2.api.chaining.extract.field=id\n"
        "api2.http.source.url=https://h.example.com/${parent.id}/${parent_value}\n"
    )
    one, two = files.load(text).connectors[0].apis

    assert (None, "t") == (one.values["kafka.topic"], two.values["kafka.topic"])


def test_cycles_and_long_chains_are_found(files: Files) -> None:
    def chain(*parents: int) -> str:
        lines = ["api.chaining.extract.field=id"]
        for number, parent in enumerate(parents, 1):
            lines.append(f"api{number}.api.name=n{number}")
            if parent:
                lines.append(f"api{number}.api.chaining.parent=n{parent}")
        return "\n".join(lines)

    files.load(chain(0, 1, 2, 3, 4))
    assert any("cycle" in f.message for f in files.errors(chain(2, 1)))
    assert any("cycle" in f.message for f in files.errors(chain(1)))
    assert any("levels" in f.message for f in files.errors(chain(0, 1, 2, 3, 4, 5)))


def test_an_auth_kind_of_its_own_leaves_the_default_of_all_alone(files: Files) -> None:
    text = (
        "auth.type=BASIC\nconnection.user=u\nconnection.password=p\n"
        "api1.kafka.key=a\napi2.auth.type=BEARER\napi2.bearer.token=t\n"
    )
    files.load(text)

    (error,) = files.errors(text + "api2.connection.user=x\n")
    assert "api2.connection.user" == error.key


def test_endpoints_are_divided_by_patterns(files: Files) -> None:
    entities = "alpha,mike,november,zulu"
    base = files.write(
        BASE.replace("/v1/things", "/${entityName}?a=${offset}")
        + f"entity.names={entities}\n"
    )
    split = files.write(
        "name=one\nhttp.source.url.pattern=https://api.example.com/[a-m]*\n"
        "name=two\nhttp.source.url.pattern=https://API.example.com:443/[n-z]*\n"
        "name=three\nhttp.source.url.pattern=https://api.example.com/[n-z]*\n"
    )
    loaded = load([base, split])

    owned = [
        [point.entity for point in endpoints(connector) if point.owned]
        for connector in loaded.connectors
    ]
    assert ["alpha", "mike"] == owned[0]
    assert ["november", "zulu"] == owned[2]
    assert {"https://api.example.com/alpha"} <= {
        point.url for point in endpoints(loaded.connectors[0])
    }
    assert any("selects none" in f.message for f in loaded.findings)


def test_endpoints_owned_by_none_or_two_are_listed(files: Files) -> None:
    base = files.write(
        BASE.replace("/v1/things", "/${entityName}") + "entity.names=a,b,c\n"
    )
    split = files.write(
        "name=one\nhttp.source.url.pattern=https://api.example.com/[ab]\n"
        "name=two\nhttp.source.url.pattern=https://api.example.com/b\n"
    )
    said = [f.message for f in load([base, split]).findings]

    assert "no connector owns the endpoint https://api.example.com/c" in said
    assert "one and two both own the endpoint https://api.example.com/b" in said


def test_tiers_are_cut_to_the_one_below(files: Files) -> None:
    values = files.load("cache.l2.ttl.seconds=100\n").connectors[0].values

    assert (100, 100, 14400) == tuple(
        values[f"cache.l{tier}.ttl.seconds"] for tier in (1, 2, 3)
    )


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("", "http.source.idempotent", True),
        ("http.source.method=PUT", "http.source.idempotent", False),
        ("http.offset.mode=SIMPLE_INCREMENTING", "pagination.type", "offset"),
        ("pagination.type=offset", "http.initial.offset", "0"),
        ("pagination.type=page\npagination.page.start=3", "http.initial.offset", "3"),
        ("", "http.initial.offset", None),
        ("rate.limit.requests.per.second=2.5", "rate.limit.burst.capacity", 3),
        ("cache.eviction.policy=FIFO", "cache.l2.policy", "FIFO"),
        ("cache.l3.max.size=7", "cache.response.max.size", 5007),
        ("tasks.max=3", "topic.creation.default.partitions", 3),
        ("tasks.max=3", "auto.scaling.max.tasks", 3),
        ("", "producer.enable.idempotence", True),
        ("producer.acks=1", "producer.enable.idempotence", False),
        ("name=x", "producer.client.id", "connector-producer-x"),
        ("group.id=g", "group.tasks.topic", "g-tasks"),
        ("producer.override.batch.size=9", "producer.batch.size", 9),
        (
            "producer.batch.size=8\nproducer.override.batch.size=9",
            "producer.batch.size",
            9,
        ),
        ("producer.override.acks=-1", "producer.acks", "all"),
        (
            "security.protocol=SSL",
            "admin.override.security.protocol",
            "SSL",
        ),
        ("https.ssl.endpoint.identification.algorithm=https",
         "https.ssl.endpoint.identification.algorithm", "https"),
        ("topic.creation.default.retention.ms=5",
         "topic.creation.default.retention.ms", "5"),
    ],
)  # fmt: skip
def test_defaults_that_follow_from_other_keys(
    files: Files, text: str, key: str, value: object
) -> None:
    assert value == files.value(text + "\n", key)


def test_memory_grows_by_task_and_bounds_what_is_expected(files: Files) -> None:
    def of(text: str) -> tuple[int, int]:
        expected, bound = memory(files.load(text).connectors[0])
        return expected.total, bound.total

    def grown(text: str, base: str = "") -> tuple[int, int]:
        (before, most), (after, bound) = of(base), of(base + text)
        return after - before, bound - most

    expected, bound = of("")
    assert expected < bound
    # A task more costs a task, and one that has no shard is not started.
    paged = "cache.enabled=false\npagination.type=page\n"
    assert grown("tasks.max=2\n", paged)[0] * 3 == grown("tasks.max=4\n", paged)[0]
    assert (0, 0) == grown("tasks.max=4\n")
    assert grown("tasks.max=3\n", paged) == grown(
        "auto.scaling.enabled=true\nauto.scaling.max.tasks=3\n", paged
    )

    assert -268435456 == grown("cache.enabled=false\n")[1]
    assert 96 << 20 == grown("producer.buffer.memory=134217728\n")[0]
    assert 120 << 20 == grown("producer.buffer.memory=134217728\n")[1]
    # 4 responses more in hand, each as large as it may be, of 8-byte records.
    deeper = grown("pagination.concurrent.enabled=true\n")[1]
    assert 1.25 * 4 * 10485760 * (2 + 230 / 8) == pytest.approx(deeper)
    # The shards of a task each have a page in hand.
    one, four = grown("entity.names=a\n"), grown("entity.names=a,b,c,d\n")
    assert one[1] < four[1]


def test_a_rate_that_is_never_reached_is_a_warning(files: Files) -> None:
    text = (
        "rate.limit.enabled=true\nrate.limit.requests.per.second=20\n"
        "api1.rate.limit.requests.per.second=50\napi2.kafka.key=k\n"
    )

    def said(text: str) -> list[str]:
        found = files.load(text).findings
        return [f.key for f in found if "never reached" in f.message]

    assert ["api1.rate.limit.requests.per.second"] == said(text)
    assert [] == said(f"{text}rate.limit.scope=PER_API\n")
    assert [] == said(text.replace("=50", "=5"))


@pytest.mark.parametrize("text", ["bootstrap.servers=embedded", "bootstrap.servers="])
def test_a_broker_that_is_not_installed_is_an_error(
    files: Files, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "engine.config.sections.kafka.missing",
        lambda purpose: "embedded is not installed",
    )

    [error] = [one for one in files.errors(text) if one.severity == "error"]

    assert "bootstrap.servers" == error.key
    assert "embedded" in error.message


@pytest.mark.parametrize(("limit", "warned"), [(0, False), (64, True), (4096, False)])
def test_a_limit_of_memory_below_what_is_expected_is_warned_of(
    files: Files, limit: int, warned: bool
) -> None:
    loaded = files.load(f"name=a\nprocess.memory.max.bytes={limit * 2**20}\n")

    found = [f for f in loaded.findings if f.key == "process.memory.max.bytes"]

    assert warned == bool(found)
    for each in found:
        assert ("warning", 2) == (each.severity, each.line)
        assert "producer.buffer.memory" in each.message
