"""
Meanings: what each word of a key with few words does.

Owns the sentences, beside the kinds that list the words.  A test holds both
together: every word of every such key has its sentence, and no other.

Read by `config.explain` and `config.reference`.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.config import authentication, pagination
from engine.config.kinds import Choice, CommaList
from engine.config.sections.key import Key

_POLICY = {
    "LRU": "What was used longest ago goes first.",
    "LFU": "What was used least often goes first.",
    "FIFO": "What was stored longest ago goes first, however often it was used.",
}
_PROTOCOL = {
    "PLAINTEXT": "No encryption, no login.",
    "SSL": "TLS; with ssl.keystore.* the broker may ask for a client certificate.",
    "SASL_PLAINTEXT": "A login by sasl.mechanism without encryption.",
    "SASL_SSL": "A login by sasl.mechanism over TLS.",
}
_MECHANISM = {
    "PLAIN": "User and password as they are: over TLS only.",
    "SCRAM-SHA-256": "User and password, of which the broker keeps a salted hash.",
    "SCRAM-SHA-512": "The same with the longer hash.",
    "OAUTHBEARER": "A token of sasl.oauthbearer.token.endpoint.url.",
}
_PEM = {"PEM": "Certificates and keys as text, -----BEGIN ...-----."}
_IDENTIFICATION = {
    "https": "The certificate must name the host that is connected to.",
    "none": "Any name in a valid certificate will do.",
}
_VERSIONS = {
    "TLSv1.2": "TLS 1.2 (RFC 5246).",
    "TLSv1.3": "TLS 1.3 (RFC 8446).",
}
_INSIDE = {
    "auto": "Refused for hosts that an answer named, allowed for those of the file.",
    "true": "Always refused.",
    "false": "Never refused.",
}
_ACKS = {
    "all": "Acknowledged once every in-sync replica has it: nothing acknowledged is lost.",
    "0": "Not acknowledged at all: what the broker loses is lost without a word.",
    "1": "Acknowledged by the leader alone: lost if it dies before the others have it.",
}
_CODECS = {
    "none": "Batches go as they are.",
    "gzip": "Small and slow.",
    "snappy": "Quick, of middling size; needs python-snappy.",
    "lz4": "Quick, of middling size.",
    "zstd": "Nearly as small as gzip and much quicker; needs zstandard.",
}
_LOGIN = {"USER_INFO": "Out of basic.auth.user.info."}

#: Key -> word -> what it does.
MEANINGS: Mapping[str, Mapping[str, str]] = {
    "http.source.method": {
        "GET": "Asks for a page; the usual one.",
        "POST": "Sends http.source.body, for APIs that are searched by a body.",
        "PUT": "As POST, for APIs that want it.",
        "PATCH": "As POST, for APIs that want it.",
        "DELETE": "Asks the API to delete: set http.source.idempotent to what is true.",
    },
    "pagination.type": {name: kind.meaning for name, kind in pagination.TYPES.items()},
    "pagination.end": {
        "EMPTY_PAGE": "A poll ends with a page without records: one request more, nothing lost.",
        "SHORT_PAGE": "It ends with a page shorter than the first one.",
    },
    "pagination.repeats": {
        "END": "Ends the poll with a warning; the page is not produced again.",
        "ALLOW": "Taken like any other page.",
    },
    "pagination.next.origin": {
        "STRICT": "To our own origin or http.source.allowed.hosts; else the poll fails.",
        "OWN": "Path and query of the link are asked for at our own origin.",
    },
    "pagination.next.method": {
        "GET": "A link is asked for by GET, without a body.",
        "SAME": "By http.source.method with http.source.body.",
    },
    "pagination.cursor.expired": {
        "RESTART": "The poll begins anew from its first page, with a warning.",
        "FAIL": "The api is FAILED until its offset is reset.",
    },
    "api.chaining.state": {
        "KEEP": "The position of each child's polls is kept.",
        "NONE": "It is not: for children that never come again, as export jobs.",
    },
    "http.source.body.null": {
        "KEEP": "A member whose template is null is sent as null.",
        "OMIT": "It is left out.",
    },
    "http.response.empty.body": {
        "ERROR": "A 200 without a body is a bad page.",
        "EMPTY": "It is a page without records.",
    },
    "http.response.graphql.partial": {
        "ERROR": "`errors` beside `data` fail the page.",
        "ALLOW": "The data is taken, the errors are said.",
    },
    "deduplication.store": {
        "MEMORY": "What was delivered is known until the task ends.",
        "STATE": "It is kept in the state and survives a restart.",
    },
    "http.client.parser": {
        "LENIENT": "Reads what servers really send, as long as it is certain where an "
        "answer ends.",
        "STRICT": "Refuses what RFC 9112 does not allow.",
    },
    "http.offset.mode": {
        "FULL": "Every poll reads everything anew; pages that brought nothing new are "
        "not produced again (the response cache). Only the place within a poll is kept.",
        "SIMPLE_INCREMENTING": "The offset goes on where it stood: for logs that only grow.",
        "CHAINING": "The next poll begins behind the last record's value (keyset).",
        "CURSOR_PAGINATION": "The next poll goes on with the last cursor or link.",
        "INCREMENTAL": "The next poll asks for what changed since the largest value seen.",
        "SNAPSHOT_PAGINATION": "Everything is read each time; what lies above the largest "
        "value seen so far is produced.",
        "SNAPSHOT_DIFF": "Everything is read; what is new or changed is produced, and what "
        "is gone has a tombstone.",
        "ODATA_PAGINATION": "The next poll goes on from the deltaLink; what was removed has "
        "a tombstone.",
    },
    "http.offset.value.type": {
        "auto": "As numbers where both are, as times where both are, else as text.",
        "number": "As numbers, exact at any length.",
        "timestamp": "As moments, in any of the forms APIs send.",
        "string": "As text, by code points.",
    },
    "http.offset.order": {
        "ASC": "The API sorts by it, oldest first: the bookmark moves within a poll.",
        "DESC": "Newest first: a poll ends at what is older than the bookmark.",
        "NONE": "In any order: the bookmark moves when the poll ends.",
    },
    "http.offset.next.record": {
        "FIRST": "The first record of the poll's first page.",
        "LAST": "The last record of the poll.",
    },
    "http.response.format": {
        "json": "One JSON document; records at http.response.data.json.pointer.",
        "ndjson": "A JSON document a line, each a record.",
        "json-seq": "Documents one behind the other, with or without separators.",
        "csv": "Values between delimiters, one object a line (http.response.csv.*).",
        "xml": "Elements as objects, with the same paths (http.response.xml.*).",
        "text": "The whole body is one record.",
    },
    "http.response.rows": {
        "OBJECTS": "Records as they are.",
        "HEADER": "Rows of values; the first row has the names of the fields.",
        "NAMED": "Rows of values; names in http.response.rows.names or .names.pointer.",
        "COLUMNS": "An object of arrays of one length, each a field.",
    },
    "http.response.explode.empty": {
        "KEEP": "The record stays, with null for an empty array.",
        "DROP": "No record comes of it.",
    },
    "http.response.csv.header": {
        "FIRST": "The first line names the fields; with names of one's own it is skipped.",
        "NONE": "The first line is a record; http.response.csv.names has the names.",
    },
    "http.response.xml.namespaces": {
        "KEEP": "ns:item stays ns:item.",
        "STRIP": "ns:item is item.",
    },
    "http.client.compression.types": {
        "gzip": "RFC 1952.",
        "deflate": "RFC 1950.",
        "br": "Brotli (RFC 7932); needs the extra [encodings].",
        "zstd": "Zstandard (RFC 8878); needs the extra [encodings].",
    },
    "http.load.balancing.strategy": {
        "ROUND_ROBIN": "Each in turn.",
        "RANDOM": "Any of them.",
        "FAILOVER": "The first that works, in the order of the list.",
    },
    "rate.limit.algorithm": {
        "TOKEN_BUCKET": "Bursts up to the capacity, then the rate.",
        "SLIDING_WINDOW": "At most so many in any window, wherever it begins.",
        "FIXED_WINDOW": "At most so many in each window of the clock: twice as many may "
        "come around its edge.",
        "LEAKY_BUCKET": "Evenly, one after the other, never two at once.",
    },
    "rate.limit.scope": {
        "GLOBAL": "One rate for all tasks and apis of the connector.",
        "PER_API": "One for each api, over all tasks.",
        "PER_HOST": "One for each host that is asked, over all tasks.",
        "PER_TASK": "One for each task: the API sees the rate times tasks.max.",
    },
    "behavior.on.error": {
        "FAIL": "The api's shard is FAILED until a reload, restart or resume.",
        "IGNORE": "The next tick tries again from the same place.",
    },
    "retry.backoff.policy": {
        "EXPONENTIAL_WITH_JITTER": "A random pause below a bound that doubles each time.",
        "CONSTANT_VALUE": "retry.backoff.ms each time.",
    },
    "auth.type": {name: kind.meaning for name, kind in authentication.TYPES.items()},
    "api.key.location": {
        "HEADER": "In the header api.key.name.",
        "QUERY": "In the query parameter api.key.name.",
    },
    "oauth2.grant.type": {
        "client_credentials": "By client id and secret (RFC 6749, 4.4).",
        "refresh_token": "By a refresh token (RFC 6749, 6).",
        "password": "By oauth2.username and oauth2.password (RFC 6749, 4.3).",
        "jwt_bearer": "By an assertion that oauth2.jwt.key signs (RFC 7523).",
    },
    "oauth2.client.auth.mode": {
        "HEADER": "In a Basic header (RFC 6749, 2.3.1).",
        "URL": "As fields of the form, for servers that read no header.",
        "JWT": "By an assertion that oauth2.jwt.key signs (private_key_jwt).",
        "NONE": "A public client: its id only.",
    },
    "oauth2.token.request.format": {
        "FORM": "A form, as RFC 6749 has it.",
        "JSON": "A JSON object.",
    },
    "oauth2.jwt.algorithm": {
        **dict.fromkeys(
            ("RS256", "RS384", "RS512"), "RSA, PKCS #1 v1.5: needs the extra `jwt`."
        ),
        **dict.fromkeys(
            ("PS256", "PS384", "PS512"), "RSA, PSS: needs the extra `jwt`."
        ),
        **dict.fromkeys(("ES256", "ES384", "ES512"), "ECDSA: needs the extra `jwt`."),
        **dict.fromkeys(("HS256", "HS384", "HS512"), "HMAC with a shared secret."),
    },
    "auth.login.method": {
        "GET": "Nothing but headers and the URL.",
        "POST": "With auth.login.body.",
        "PUT": "With auth.login.body.",
        "PATCH": "With auth.login.body.",
    },
    "http.job.create.method": {
        "POST": "With http.job.create.body.",
        "PUT": "With http.job.create.body.",
        "GET": "Nothing but the URL.",
    },
    "http.job.status.method": {
        "GET": "Nothing but the URL.",
        "POST": "With http.job.status.body.",
    },
    "auth.login.send.location": {
        "HEADER": "In the header auth.login.send.name.",
        "QUERY": "In the query parameter auth.login.send.name; cut from logs and state.",
        "COOKIE": "In the cookie auth.login.send.name.",
    },
    "http.cookies": {
        "NONE": "What a server sets is forgotten.",
        "POLL": "Kept in memory for one poll of one shard.",
    },
    "https.ssl.truststore.type": _PEM,
    "https.ssl.keystore.type": _PEM,
    "https.ssl.endpoint.identification.algorithm": _IDENTIFICATION,
    "https.ssl.enabled.protocols": _VERSIONS,
    "connection.disallow.local.ips": _INSIDE,
    "connection.disallow.private.ips": _INSIDE,
    "cache.l1.policy": _POLICY,
    "cache.l2.policy": _POLICY,
    "cache.l3.policy": _POLICY,
    "cache.eviction.policy": _POLICY,
    "cache.warming.strategies": {
        "PREDICTIVE": "What each of the last polls asked, just before the next one.",
        "LRU": "What was used last and is no longer fresh.",
    },
    "transformation.null.value.handling": {
        "SKIP": "The field is left out.",
        "KEEP": "The field is null.",
        "FAIL": "The record is a bad record.",
    },
    "transformation.unmapped.fields": {
        "DROP": "Only mapped fields are produced.",
        "KEEP": "Top-level fields that no mapping reads follow the mapped ones.",
    },
    "transformation.function.unit": {
        "record": "f(record, context): a record, a list of records, or None.",
        "page": "f(records, context): a list of records.",
    },
    "key.converter.basic.auth.credentials.source": _LOGIN,
    "value.converter.basic.auth.credentials.source": _LOGIN,
    "errors.tolerance": {
        "none": "The first bad record stops the api; its page is not delivered.",
        "all": "Bad records become dead letters, the others are delivered.",
    },
    "security.protocol": _PROTOCOL,
    "sasl.mechanism": _MECHANISM,
    "ssl.truststore.type": _PEM,
    "ssl.keystore.type": _PEM,
    "ssl.endpoint.identification.algorithm": _IDENTIFICATION,
    "ssl.enabled.protocols": _VERSIONS,
    "producer.acks": _ACKS,
    "producer.compression.type": _CODECS,
    "exactly.once.support": {
        "requested": "In one transaction where broker, rights and configuration allow "
        "it, else at least once, which the log and the gauge eos_active say.",
        "required": "In one transaction, or the connector does not start.",
        "disabled": "At least once: state follows the acknowledgements.",
    },
    "transaction.boundary": {
        "poll": "A transaction ends with a poll, and within it after 200 ms of pages.",
        "interval": "A transaction has the pages of transaction.boundary.interval.ms, or "
        "those up to the end of a poll.",
    },
    "log.level": {
        "OFF": "Nothing.",
        "ERROR": "What has failed.",
        "WARN": "And what is not as it should be.",
        "INFO": "And what happens, a few lines a minute at most.",
        "DEBUG": "And each request and poll, and the lines of libraries.",
        "TRACE": "As DEBUG.",
    },
    "log.format": {
        "text": "A line for people: time, level, logger, words.",
        "json": "A JSON object a line.",
        "logfmt": "key=value pairs.",
        "journal": "systemd's journal, with fields.",
    },
    "metrics.names": {
        "NATIVE": "Our own, http_source_*.",
        "STRIMZI": "Connect's, as Strimzi's dashboards have them.",
        "CONFLUENT": "Connect's, as Confluent's dashboards have them.",
    },
    "config.providers": {
        "env": "${env:NAME}: a variable of the environment.",
        "file": "${file:PATH} and ${file:PATH:KEY}: a file, or a key of a .properties file.",
        "dir": "${dir:DIR:KEY}: a file in a directory.",
        "cred": "${cred:NAME}: a credential of systemd (LoadCredential=).",
    },
}

#: What a prefix of Kafka's clients has in common with the key behind it.
_PREFIXES = ("producer.override.", "producer.", "admin.override.", "consumer.override.")


def words_of(key: Key) -> tuple[str, ...]:
    """The words a key may have, () where there are not just a few."""
    kind = key.kind.item if isinstance(key.kind, CommaList) else key.kind
    return kind.words if isinstance(kind, Choice) else ()


def meanings(key: Key) -> Mapping[str, str]:
    """What each word of a key does, in the order of the words; {} where it has none."""
    names = [key.name]
    for prefix in _PREFIXES:
        if key.name.startswith(prefix):
            names += [
                key.name.removeprefix(prefix),
                f"producer.{key.name.removeprefix(prefix)}",
            ]
    found = next((MEANINGS[name] for name in names if name in MEANINGS), {})
    return {word: found[word] for word in words_of(key) if word in found}
