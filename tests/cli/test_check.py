"""`check` says what `run` would refuse: each late refusal is an error of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.cli.main import main


def checked(
    folder: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, str]
) -> tuple[int, list[dict[str, Any]]]:
    file = folder / "c.properties"
    values = {
        "http.source.url": "http://127.0.0.1:1/",
        "kafka.topic": "t",
        "bootstrap.servers": "127.0.0.1:1",
        **keys,
    }
    file.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    code = main(["check", "--json", str(file)])
    return code, json.loads(capsys.readouterr().out)["findings"]


NO_PEM = "-----BEGIN CERTIFICATE-----\\nnot a certificate\\n-----END CERTIFICATE-----"

#: What is stated -> the key to blame, and what is said.
REFUSED: dict[str, tuple[dict[str, str], str, str]] = {
    "not built": ({"group.id": "g"}, "group.id", "not available yet"),
    "no function": (
        {"transformation.function": "no_such_module:f"},
        "transformation.function",
        "no module",
    ),
    "no such name": (
        {"transformation.function": "json:no_such_name"},
        "transformation.function",
        "no function",
    ),
    "no login class": (
        {"http.auth.class": "no_such_module:Login"},
        "http.auth.class",
        "no_such_module",
    ),
    "no login": ({"http.auth.class": "json:dumps"}, "http.auth.class", "dumps"),
    "no cipher": (
        {"security.protocol": "SSL", "ssl.cipher.suites": "NO-SUCH"},
        "ssl.cipher.suites",
        "names none",
    ),
    "no certificate of Kafka": (
        {"security.protocol": "SSL", "ssl.truststore.certificates": NO_PEM},
        "ssl.truststore",
        "",
    ),
    "no certificate of HTTP": (
        {"https.ssl.truststore.certificates": NO_PEM},
        "https.ssl",
        "",
    ),
    "a path where there is none": (
        {"http.response.format": "text", "http.response.data.json.pointer": "a"},
        "http.response",
        "json",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_run_refuses_is_an_error(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, key, said = REFUSED[kind]

    code, findings = checked(tmp_path, capsys, keys)

    errors = [each for each in findings if each["severity"] == "error"]
    assert 78 == code
    assert errors, findings
    assert any(key in f"{each['key']} {each['message']}" for each in errors), errors
    assert any(said in each["message"] for each in errors), errors


def test_what_run_takes_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("def f(record, context):\n    return record\n")
    keys = {
        "transformation.function": "mine:f",
        "http.auth.class": "requests.auth:HTTPBasicAuth",
        "connection.user": "me",
        "connection.password": "pw",
        "security.protocol": "SSL",
    }

    code, findings = checked(tmp_path, capsys, keys)

    assert not [each for each in findings if each["severity"] == "error"]
    assert 0 == code
