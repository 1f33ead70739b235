"""What a key means, where a value comes from, and the reference."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from engine.admin.cards import config_of
from engine.config import ConfigError, show
from engine.config.explain import explain
from engine.config.keys import TABLE
from engine.config.keys.meanings import MEANINGS, meanings, words_of
from engine.config.reference import reference
from engine.observe.redact import redact
from tests.config.conftest import Files


@pytest.mark.parametrize("name", list(TABLE))
def test_every_key_is_explained(name: str) -> None:
    key = TABLE[name]

    text = explain(name)
    assert f"{name}={key.example}" in text
    said = " ".join(text.split())
    for part in (name, key.meaning, key.kind.allowed):
        assert " ".join(part.split()) in said
    long = [
        line for line in text.splitlines() if len(line) > 100 and "example" not in line
    ]
    # Only what cannot be broken is longer.
    assert all(len(line.split()) <= 3 for line in long), long


@pytest.mark.parametrize("name", [name for name, key in TABLE.items() if words_of(key)])
def test_each_word_of_a_key_with_few_words_says_what_it_does(name: str) -> None:
    key = TABLE[name]

    assert list(words_of(key)) == list(meanings(key))
    for word, meaning in meanings(key).items():
        assert meaning.endswith(".")
        assert word in explain(name)


def test_no_meaning_is_of_a_key_or_word_that_is_not_there() -> None:
    for name, words in MEANINGS.items():
        assert list(words) == list(words_of(TABLE[name])), name


@pytest.mark.parametrize(
    ("word", "first"),
    [
        ("auth", "auth.type"),
        ("cache", "cache.enabled"),
        ("pagination", "pagination.type"),
        ("rate", "rate.limit.enabled"),
        ("oauth2", "oauth2.grant.type"),
        ("authentication", "auth.type"),
        ("retry", "retry.backoff.ms"),
        ("kafka", "kafka.topic"),
    ],
)
def test_a_word_leads_to_the_keys_about_it(word: str, first: str) -> None:
    text = explain(word)

    assert text.splitlines()[2].split()[0] == first
    assert all(len(line) <= 100 for line in text.splitlines())


def test_the_reference_fits_a_hundred_columns_but_for_what_cannot_be_broken() -> None:
    long = [line for line in reference().splitlines() if len(line) > 100]

    assert all(len(line.strip("* ").split()) == 1 for line in long), long


def test_a_prefix_is_kept_in_the_example() -> None:
    assert "api2.kafka.key=" in explain("api2.kafka.key")


def test_a_member_of_a_family_is_explained() -> None:
    assert "wins over the list" in explain("http.source.header.X-Tenant")
    assert "topic settings" in explain("topic.creation.default.retention.ms")


def test_an_unknown_key_gets_the_nearest() -> None:
    assert "did you mean tasks.max?" in explain("task.max")
    assert "unknown key" in explain("zzzzzzzz")


def test_a_foreign_key_says_what_is_ours() -> None:
    text = explain("http.request.headers")
    assert "http.source.headers" in text and "separator" in text

    assert "without effect" in explain("plugin.path")
    assert "refused" in explain("transforms.x.type")


def test_show_names_file_and_line(files: Files) -> None:
    loaded = files.load("name=a\n\ntasks.max=3\napi1.kafka.key=k\napi2.kafka.key=l\n")
    text = show(loaded)

    assert f"tasks.max=3  # {files.directory}/file2.properties:3" in text
    assert "api1.kafka.key=k  # " in text and "api2.kafka.key=l  # " in text
    assert "producer.acks" not in text


def test_show_resolved_has_every_key(files: Files) -> None:
    text = show(files.load("name=a\n"), resolved=True)

    shown = {line.partition("=")[0] for line in text.splitlines() if "=" in line}
    missing = {name for name in TABLE if "<" not in name} - shown
    assert {
        name for name in missing if not name.startswith("producer.override")
    } == set()
    assert "producer.acks=all  # default" in text
    assert "cache.eviction.threshold=0.8  # default" in text
    assert "listeners=http://127.0.0.1:8080,http://[::1]:8080  # default" in text


@pytest.mark.parametrize("resolved", [False, True])
def test_show_never_shows_a_secret(files: Files, resolved: bool) -> None:
    loaded = files.load(
        "auth.type=API_KEY\napi.key.value=canary-1\n"
        "http.source.query.params=api_key=canary-2&a=b\n"
        "http.source.url=https://h.example.com/x?token=canary-3&c=d\n"
        "http.source.headers=Authorization:canary-4;B:c\n"
        "http.source.header.X-Secret=canary-5\n"
        "http.request.sensitive.headers=Plain: canary-6\n"
        "value.converter.basic.auth.user.info=u:canary-7\n"
        "admin.token=canary-8-of-16-characters\n"
    )
    text = show(loaded, resolved)

    assert "canary" not in text
    for kept in ("a=b", "c=d", "B:c", "****"):
        assert kept in text


def test_the_reference_holds_every_key() -> None:
    text = reference()

    for key in TABLE.values():
        assert key.folds or f"### `{key.name}`\n" in text


def test_loading_is_quick_to_import() -> None:
    """`check`, `explain` and `--help` wait for no Kafka and no HTTP library."""
    code = (
        "import sys, json, engine.config, engine.config.reference;"
        "print(json.dumps([m for m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    heavy = {
        "kafka",
        "requests",
        "urllib3",
        "httptools",
        "diskcache",
        "prometheus_client",
    }
    assert not loaded & heavy


HIDDEN = [
    ("http.source.body", '{"user":"me","password":"canary-1","n":1}'),
    ("http.source.body", '{"auth":{"client_secret" : "canary-1 \\\\" x"}}'),
    ("http.source.body", '{"apiKey":"canary-1","id":${record.id}}'),
    ("http.source.body", '{"pin_password":12345canary}'),
    ("http.source.body", "grant_type=password&username=u&password=canary-1"),
    ("http.source.body", "password=canary-1"),
    ("http.source.body", "<login><user>u</user><password>canary-1</password></login>"),
    ("http.source.body", '{"query":"mutation{l(password:\\\\"canary-1\\\\"){id}}"}'),
    ("http.source.body", "Authorization: Bearer canary-1"),
    ("http.source.query.params", "a=b&access_token=canary-1"),
    ("http.source.query.params", "sig=canary-1"),
    ("http.source.url", "https://u:canary-1@h.example.com/x"),
    ("http.source.url", "https://h.example.com/x?api_key=canary-1&a=${now}"),
    ("http.source.header.Authorization", "Basic canary-1"),
    ("http.source.header.Cookie", "sid=canary-1"),
    ("http.source.header.X-Api-Key", "canary-1"),
    ("http.source.headers", "X-Auth-Token:canary-1;Accept:a"),
    ("http.api.base.url", "https://u:canary-1@h.example.com/"),
    ("http.source.body", '{"query":"mutation{l(password:\\"canary-1\\"){id}}"}'),
    ("transformation.enrichment.rules", '[{"target":"x","password":"canary-1"}]'),
]


@pytest.mark.parametrize(("key", "value"), HIDDEN)
def test_a_secret_shows_nowhere_whatever_the_key(
    files: Files, key: str, value: str
) -> None:
    text = f"http.source.method=POST\n{key}={value}\n"
    secret = re.search("[0-9]*canary[-0-9]*", value)
    assert secret is not None
    try:
        loaded = files.load(text)
        said = show(loaded, True) + "".join(map(str, loaded.findings))
        said += json.dumps(dict(config_of(loaded.connectors[0], None)))
    except ConfigError as failure:
        said = "".join(map(str, failure.findings))

    assert secret[0] not in said
    if "Authorization:" not in value and '" x' not in value:
        assert secret[0] not in redact(f"the API says {secret[0]} is wrong")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("http.source.body", '{"password":"${env:PW}","sort":"asc"}'),
        ("http.source.body", '{"filter":{"status":"open"},"page":${offset}}'),
        ("http.source.body", "token=${env:PW}&page=2"),
        ("http.source.query.params", "api_key=${env:PW}&sort=name"),
        ("http.source.header.Authorization", "Bearer ${env:PW}"),
        ("kafka.key", "${record.token}"),
    ],
)
def test_what_is_no_secret_stays_as_it_is(files: Files, key: str, value: str) -> None:
    extra = "pagination.type=offset\n" if "offset" in value else ""
    loaded = files.load(
        f"http.source.method=POST\n{extra}{key}={value}\n",
        environment={"PW": "another-canary"},
    )

    assert f"{key}={value}  #" in show(loaded, False)
