"""`http.response.error.rules` and its neighbours: what is refused, and in what words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.config import load
from engine.errors import ConfigError


def loaded(folder: Path, **keys: object) -> object:
    lines = {
        "name": "c",
        "http.source.url": "https://api.example/x",
        "kafka.topic": "t",
        "bootstrap.servers": "127.0.0.1:9092",
    }
    file = folder / "c.properties"
    text = "".join(f"{key}={value}\n" for key, value in (lines | keys).items())
    file.write_text(text)
    return load([file]).connectors[0].apis[0].values


RULES = "http.response.error.rules"


@pytest.mark.parametrize(
    "rule",
    [
        {"status": 404, "action": "EMPTY"},
        {"status": "5xx", "action": "retry"},
        {"status": "400,404,500-599", "action": "FAIL"},
        {"status": [404, "5xx"], "action": "rate-limited"},
        {"header": "X-Error", "action": "FAIL"},
        {"header": "X-Error", "exists": True, "action": "FAIL"},
        {"field": "ok", "equals": False, "action": "REFRESH_TOKEN"},
        {"field": "error.code", "equals": [1, "a"], "action": "RESTART"},
        {"field": "/error/code", "matches": "(?i)rate.*", "action": "RATE_LIMITED"},
        {"status": 400, "field": "m", "matches": "x", "action": "EMPTY"},
    ],
)
def test_what_is_a_rule(tmp_path: Path, rule: object) -> None:
    assert loaded(tmp_path, **{RULES: json.dumps([rule])})


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"status": 404}, "action is missing"),
        ({"action": "FAIL"}, "nothing to look at"),
        ({"status": 404, "action": "EXPLODE"}, "RATE_LIMITED"),
        ({"status": 99, "action": "FAIL"}, "status"),
        ({"status": "4x", "action": "FAIL"}, "status"),
        ({"status": True, "action": "FAIL"}, "status"),
        ({"status": [], "action": "FAIL"}, "empty"),
        ({"status": 404, "equals": 1, "action": "FAIL"}, "equals tests"),
        ({"header": "a", "field": "b", "action": "FAIL"}, "header and field"),
        ({"header": "a b", "action": "FAIL"}, "name of a header"),
        ({"field": "", "action": "FAIL"}, "path"),
        ({"field": "a[", "action": "FAIL"}, "field"),
        ({"field": "a", "matches": "(", "action": "FAIL"}, "matches"),
        ({"field": "a", "matches": 7, "action": "FAIL"}, "matches"),
        ({"field": "a", "exists": "yes", "action": "FAIL"}, "exists"),
        ({"field": "a", "equals": 1, "matches": "1", "action": "FAIL"}, "one of"),
        ({"feild": "a", "action": "FAIL"}, "feild"),
        ("text", "JSON object"),
    ],
)
def test_what_is_none(tmp_path: Path, rule: object, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, **{RULES: json.dumps([rule])})

    assert RULES in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (RULES, "{}"),
        (RULES, "[{"),
        ("http.response.charset", "klingon"),
        ("http.response.charset", "punycode"),
        ("http.response.empty.body", "MAYBE"),
        ("http.response.graphql.partial", "SOME"),
        ("http.response.bad.page.patience.ms", "-1"),
        ("http.response.error.message.field", "a["),
        ("http.source.body.null", "DROP"),
        ("http.client.parser", "LAX"),
    ],
)
def test_what_is_refused(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        loaded(tmp_path, **{key: value})
