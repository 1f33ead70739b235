"""Exposed: what others can read in a file or on the way is a warning, and a refusal
under --strict."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli.main import main
from engine.config import Finding
from tests.config.conftest import BASE, Files

OPEN = "http.source.url=http://api.example.com/x\n"
BASED = "http.source.url=/x\nhttp.api.base.url=http://api.example.com\n"
JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="u" password="${env:HOME}";'
)


def opened(text: str) -> str:
    return text if "http.source.url=" in text else OPEN + text


def warned(files: Files, text: str) -> list[Finding]:
    return [f for f in files.load(text).findings if f.severity == "warning"]


@pytest.mark.parametrize(
    "text",
    [
        "auth.type=BEARER\nbearer.token=${env:HOME}",
        "auth.type=BASIC\nconnection.user=u\nconnection.password=${env:HOME}",
        "http.source.header.Authorization=Basic ${env:HOME}",
        "http.source.header.Authorization=Basic dTpw",
        "http.source.header.authorization=Basic dTpw",
        "http.source.header.Cookie=sid=${env:HOME}",
        "http.source.header.X-Api-Key=${env:HOME}",
        "http.source.headers=Accept:a/b;Authorization:Bearer ${env:HOME}",
        "http.source.headers=X-Auth-Token:abcdef",
        "http.source.query.params=access_token=${env:HOME}&a=b",
        'http.source.method=POST\nhttp.source.body={"password":"${env:HOME}"}',
        "http.source.method=POST\nhttp.source.body=user=u&password=x1234567",
        "http.source.url=http://api.example.com/x?api_key=abc",
        f"{BASED}auth.type=BEARER\nbearer.token=${{env:HOME}}",
    ],
)
def test_credentials_over_plain_http_are_a_warning(files: Files, text: str) -> None:
    found = [f for f in warned(files, opened(text)) if "unencrypted" in f.message]

    assert 1 == len(found)
    assert "write https://" in found[0].message


@pytest.mark.parametrize(
    "text",
    [
        "http.source.url=http://api.example.com/x",
        "http.source.url=http://api.example.com/x?page=2&sort_key=a",
        "http.source.url=https://api.example.com/x\nhttp.source.header.Cookie=${env:HOME}",
        "http.source.url=http://127.0.0.1:80/x\nhttp.source.header.Cookie=${env:HOME}",
        "http.source.url=http://[::1]/x\nhttp.source.header.Cookie=${env:HOME}",
        "http.source.url=http://localhost/x\nhttp.source.header.Cookie=${env:HOME}",
        OPEN + "http.source.header.Accept=text/plain",
        OPEN + 'http.source.method=POST\nhttp.source.body={"pageKey":"1","token":""}',
    ],
)
def test_what_is_no_credential_or_is_encrypted_is_none(files: Files, text: str) -> None:
    assert [] == [f for f in warned(files, text) if "unencrypted" in f.message]


@pytest.mark.parametrize(
    ("protocol", "mechanism", "warns"),
    [
        ("SASL_PLAINTEXT", "PLAIN", True),
        ("SASL_SSL", "PLAIN", False),
        ("SASL_PLAINTEXT", "SCRAM-SHA-512", False),
    ],
)
def test_a_password_to_the_broker_is_encrypted(
    files: Files, protocol: str, mechanism: str, warns: bool
) -> None:
    text = (
        f"security.protocol={protocol}\nsasl.mechanism={mechanism}\n"
        f"sasl.jaas.config={JAAS}\n"
    )

    found = [f for f in warned(files, text) if "unencrypted" in f.message]

    assert warns == bool(found)
    assert all("SASL_SSL" in f.message for f in found)


SECRETS = [
    "auth.type=BEARER\nbearer.token=canary-1",
    "auth.type=BASIC\nconnection.user=u\nconnection.password=canary-1",
    "http.source.header.Authorization=Bearer canary-1",
    "http.source.headers=X-Api-Key:canary-1",
    'http.source.method=POST\nhttp.source.body={"password":"canary-1"}',
    "http.source.method=POST\nhttp.source.body=a=b&client_secret=canary-1",
    "http.source.query.params=api_key=canary-1",
    "http.source.url=https://api.example.com/x?token=canary-1",
    "admin.token=canary-1-of-sixteen-letters",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_literal_secret_in_a_file_that_others_can_read(
    files: Files, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = BASE.replace("http.source.url=", "#") if "source.url=" in text else BASE
    path = files.write(base + text + "\n", "own.properties")
    for mode, wanted in ((0o644, 1), (0o640, 1), (0o600, 0)):
        path.chmod(mode)
        capsys.readouterr()
        code = main(["check", "--strict", str(path)])
        said = "".join(capsys.readouterr())
        if wanted:
            assert 78 == code
            assert "chmod 600" in said and "${env:NAME}" in said
        else:
            assert "chmod 600" not in said
        assert "canary-1" not in said


def test_a_reference_is_no_literal_secret(files: Files) -> None:
    path = files.write(
        BASE + "auth.type=BEARER\nbearer.token=${env:HOME}\n"
        "http.source.query.params=api_key=${env:HOME}\n",
        "own.properties",
    )
    path.chmod(0o644)

    assert not [
        f
        for f in files.alone(path.read_text()).findings
        if "literal secret" in f.message
    ]


@pytest.mark.parametrize("token", ["", "a", "fifteen-letters"])
def test_a_short_admin_token_is_an_error(files: Files, token: str) -> None:
    if token:
        found = files.errors(f"admin.token={token}\n")
        assert any("16 characters" in f.message for f in found)
        assert token not in str([f for f in found if f.value]) or len(token) < 2
    files.load("admin.token=sixteen-letters-\n")
