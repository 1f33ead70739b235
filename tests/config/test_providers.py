"""Values that stand somewhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.config import ConfigError, Secret, load, show
from engine.observe.redact import redact
from tests.config.conftest import BASE, Files

ENVIRONMENT = {"TOKEN": "canary-token", "N": "7", "EMPTY": "", "TRICKY": "a${now};B:c"}


def test_an_environment_variable(files: Files) -> None:
    loaded = files.load(
        "auth.type=BEARER\nbearer.token=${env:TOKEN}\ntasks.max=${env:N}\n",
        environment=ENVIRONMENT,
    )

    token = loaded.connectors[0].apis[0].values["bearer.token"]
    assert isinstance(token, Secret)
    assert "canary-token" == token.reveal()
    assert 7 == loaded.connectors[0].values["tasks.max"]
    assert {"TOKEN", "N"} == loaded.variables


def test_a_file_whole_and_by_key(files: Files) -> None:
    files.write("one\ntwo\n\n", "whole.txt")
    files.write("a=1\nuser=me # not a comment\\u0021\n", "secrets.properties")

    loaded = files.load(
        "kafka.key=x${file:whole.txt}\n"
        "connection.user=${file:secrets.properties:user}\n"
        "auth.type=BASIC\nconnection.password=${file:secrets.properties:a}\n"
    )

    values = loaded.connectors[0].apis[0].values
    assert "xone\ntwo\n" == values["kafka.key"]
    assert "me # not a comment!" == values["connection.user"]


def test_a_directory_and_credentials(files: Files, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "k").write_text("v1\r\n")
    text = "pagination.link.rel=${dir:d:k}-${directory:d:k}-${cred:k}\n"

    loaded = files.load(
        text, environment={"CREDENTIALS_DIRECTORY": str(tmp_path / "d")}
    )
    assert "v1-v1-v1" == loaded.connectors[0].apis[0].values["pagination.link.rel"]


def test_a_mounted_secret_may_be_a_link_inside_its_directory(
    files: Files, tmp_path: Path
) -> None:
    (tmp_path / "d" / "..data").mkdir(parents=True)
    (tmp_path / "d" / "..data" / "k").write_text("v")
    (tmp_path / "d" / "k").symlink_to("..data/k")

    assert "v" == files.value("pagination.link.rel=${dir:d:k}", "pagination.link.rel")


@pytest.mark.parametrize(
    "reference",
    [
        "${env:UNSET}",
        "${env:EMPTY}",
        "${env:}",
        "${file:missing}",
        "${file:.}",
        "${file:empty}",
        "${file:large}",
        "${file:fifo}",
        "${file:latin}",
        "${file:plain:nokey}",
        "${file:bad.properties:a}",
        "${dir:.:missing}",
        "${dir:.:../x}",
        "${dir:.:sub/x}",
        "${dir:.:out}",
        "${dir:.}",
        "${cred:x}",
        "${vault:x}",
    ],
)
def test_what_leads_nowhere_names_itself_only(
    files: Files, tmp_path: Path, reference: str
) -> None:
    files.write("", "empty")
    files.write("x" * 65537, "large")
    files.write(b"\xff", "latin")
    files.write("a=canary-plain\n", "plain")
    files.write("a=canary-bad\nb\n", "bad.properties")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "out").symlink_to("/etc/hostname")

    base = files.write(BASE)
    path = files.write(f"pagination.link.rel={reference}\n")
    with pytest.raises(ConfigError) as caught:
        load([base, path], environment=ENVIRONMENT)

    (error,) = caught.value.findings
    assert reference.split(":")[0] in error.message
    assert "canary" not in str(caught.value)


def test_what_comes_out_is_not_looked_at_again(files: Files) -> None:
    """Neither as a provider, nor a template, a comment, or another header."""
    files.write("${env:TOKEN} # ${now}\n", "x")

    loaded = files.load(
        "kafka.key=${file:x}\n"
        "http.source.headers=A:${env:TRICKY}\n"
        "pagination.link.rel=${file:x}\n",
        environment=ENVIRONMENT,
    )
    values = loaded.connectors[0].apis[0].values
    assert "$${env:TOKEN} # $${now}" == values["kafka.key"]
    assert (("A", "a$${now};B:c"),) == values["http.source.headers"]
    assert "${env:TOKEN} # ${now}" == values["pagination.link.rel"]


def test_a_value_lands_whole_in_parameters_and_json(files: Files) -> None:
    loaded = files.load(
        "http.source.query.params=key=${env:K}&n=1\n"
        "http.source.method=POST\n"
        'http.source.body={"k": "${env:K}"}\n'
        'transformation.enrichment.rules=[{"field": "k", "value": "${env:K}"}]\n',
        environment={"K": 'a&b="c"\\'},
    )
    values = loaded.connectors[0].apis[0].values
    assert "key=a%26b%3D%22c%22%5C&n=1" == values["http.source.query.params"]
    assert '{"k": "a&b=\\"c\\"\\\\"}' == values["http.source.body"]
    assert 'a&b="c"\\' == values["transformation.enrichment.rules"][0]["value"]


def test_a_list_may_come_out_of_one(files: Files) -> None:
    loaded = files.load(
        "bootstrap.servers=${env:BROKERS}\n", environment={"BROKERS": "a:1, b:2"}
    )

    assert ("a:1", "b:2") == loaded.connectors[0].values["bootstrap.servers"]


def test_the_other_spelling_of_the_environment(files: Files) -> None:
    loaded = files.load("kafka.key=${env.TOKEN}\n", environment=ENVIRONMENT)

    assert "canary-token" == loaded.connectors[0].apis[0].values["kafka.key"]


def test_a_doubled_dollar_is_text(files: Files) -> None:
    loaded = files.load(
        "kafka.key=$${env:TOKEN}\nconnection.user=$${env:TOKEN}\nauth.type=BASIC\nconnection.password=$${x:y}\n",
        environment=ENVIRONMENT,
    )

    values = loaded.connectors[0].apis[0].values
    assert "$${env:TOKEN}" == values["kafka.key"]
    assert "${env:TOKEN}" == values["connection.user"]
    assert "${x:y}" == values["connection.password"].reveal()


def test_templates_keep_their_own_short_forms(files: Files) -> None:
    text = "kafka.key=${date:yyyy}-${timestamp:now-5m}-${math:round(1)}\n"

    assert text[10:-1] == files.value(text, "kafka.key")


def test_a_value_that_does_not_fit_never_shows(files: Files) -> None:
    base, path = files.write(BASE), files.write("tasks.max=${env:TOKEN}\n")

    with pytest.raises(ConfigError) as caught:
        load([base, path], environment=ENVIRONMENT)

    assert "canary" not in str(caught.value)
    assert "int 1..256" in str(caught.value)


def test_show_and_redaction_know_what_came_out(files: Files) -> None:
    loaded = files.load(
        "kafka.key=${env:TOKEN}\nauth.type=BEARER\nbearer.token=${env:TOKEN}\n",
        environment=ENVIRONMENT,
    )

    text = show(loaded, resolved=True)
    assert "canary" not in text
    assert "bearer.token=${env:TOKEN}" in text
    assert "got **** here" == redact("got canary-token here")


def test_a_number_out_of_a_provider_does_not_blank_out_others(files: Files) -> None:
    files.load(
        "pagination.max.pages=${env:P}\ncache.enabled=${env:B}\n",
        environment={"P": "10007", "B": "false"},
    )

    assert "10007 records, false" == redact("10007 records, false")


def test_restrictions(files: Files, tmp_path: Path) -> None:
    (tmp_path / "ok").mkdir()
    (tmp_path / "ok" / "x").write_text("v")
    files.write("v", "x")
    allowed = f"config.providers.file.param.allowed.paths={tmp_path}/ok\n"
    only = "config.providers=file\n"
    pattern = "config.providers.env.param.allowlist.pattern=KHS_.*\n"
    key = "pagination.link.rel"

    assert "v" == files.value(allowed + f"{key}=${{file:ok/x}}\n", key)
    for text in (
        allowed + f"{key}=${{file:x}}\n",
        allowed + f"{key}=${{file:ok/../x}}\n",
        only + f"{key}=${{env:HOME}}\n",
        pattern + f"{key}=${{env:HOME}}\n",
    ):
        (error,) = files.errors(text)
        assert "allow" in error.message


def test_a_class_line_must_name_the_built_in_one(files: Files) -> None:
    package = "org.apache.kafka.common.config.provider"
    files.load(f"config.providers.file.class={package}.FileConfigProvider\n")

    (error,) = files.errors("config.providers.file.class=com.example.Vault\n")
    assert "FileConfigProvider" in error.message


def test_a_literal_secret_in_a_readable_file_is_a_warning(files: Files) -> None:
    text = "auth.type=BEARER\nbearer.token=canary-literal\n"
    base, path = files.write(BASE), files.write(text)

    assert not load([base, path]).findings
    path.chmod(0o640)
    (found,) = load([base, path]).findings
    assert ("warning", 2, "bearer.token", "****") == (
        found.severity,
        found.line,
        found.key,
        found.value,
    )
    path.write_text("auth.type=BEARER\nbearer.token=${env:TOKEN}\n")
    assert not load([base, path], environment=ENVIRONMENT).findings


@pytest.mark.parametrize(
    "text",
    [
        "kafka.key=${env:${env:TOKEN}}",
        "kafka.key=${env:${record.id}}",
        "kafka.key=${env:A_${env:N}_B}",
        "kafka.key=${env.${env:TOKEN}}",
        "kafka.key=${file:${env:TOKEN}}",
        "kafka.key=${dir:d:${file:x}}",
        "kafka.key=${cred:${cred:k}}",
        "kafka.key=${env:$${env:TOKEN}}",
        "auth.type=BEARER\nbearer.token=${env:${env:TOKEN}}",
        "tasks.max=${env:${env:N}}",
        "http.request.headers=X-Key:${env:${env:TOKEN}}",
        'http.source.body={"a":"${env:${env:TOKEN}}"}',
        'transformation.field.mappings=[{"source":"${env:${env:TOKEN}}","target":"b"}]',
    ],
)
def test_a_provider_inside_a_provider_s_name_is_an_error(
    files: Files, text: str
) -> None:
    with pytest.raises(ConfigError, match="inside the name of a provider") as caught:
        files.load(text + "\n", environment=ENVIRONMENT)

    assert "canary-token" not in str(caught.value)


def test_a_literal_dollar_brace_is_no_provider(files: Files) -> None:
    loaded = files.load("kafka.key=$${env:${env:N}}\n", environment=ENVIRONMENT)

    assert "$${env:7}" == loaded.connectors[0].apis[0].values["kafka.key"]
