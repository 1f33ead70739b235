"""The standard AWS variables stand in for the keys of AWS_SIGV4, or it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import load
from engine.errors import ConfigError

BASE = """
name=orders
http.source.url=https://api.example.com/v1/things
kafka.topic=things
bootstrap.servers=127.0.0.1:9092
auth.type=AWS_SIGV4
"""
ID, SECRET = "http.auth.aws.access.key.id", "http.auth.aws.secret.access.key"
TOKEN, REGION = "http.auth.aws.session.token", "http.auth.aws.region"
PAIR = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "canary-env"}
STATED = f"{ID}=AKIDSTATED\n{SECRET}=canary-stated\n"


def loaded(tmp_path: Path, text: str, environment: dict[str, str]):
    path = tmp_path / "c.properties"
    path.write_text(BASE + text)
    path.chmod(0o600)
    return load([path], environment=environment)


def keys_of(values) -> list[str | None]:
    found = [values[key] for key in (ID, SECRET, TOKEN)]
    return [None if one is None else one.reveal() for one in found] + [values[REGION]]


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        (
            "",
            {**PAIR, "AWS_REGION": "eu-north-1"},
            ["AKIDENV", "canary-env", None, "eu-north-1"],
        ),
        (
            "",
            {**PAIR, "AWS_SESSION_TOKEN": "canary-t", "AWS_DEFAULT_REGION": "a-1"},
            ["AKIDENV", "canary-env", "canary-t", "a-1"],
        ),
        (
            f"{REGION}=b-1\n",
            {**PAIR, "AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "a-1"},
            ["AKIDENV", "canary-env", None, "b-1"],
        ),
        # A pair is whole, and a token belongs to the pair it came with.
        (
            f"{STATED}{REGION}=b-1\n",
            {**PAIR, "AWS_SESSION_TOKEN": "canary-t"},
            ["AKIDSTATED", "canary-stated", None, "b-1"],
        ),
    ],
)
def test_what_stands_in_the_environment(tmp_path, text, environment, expected) -> None:
    found = loaded(tmp_path, text, environment)

    assert expected == keys_of(found.connectors[0].apis[0].values)
    # They leave the environment of every child, as other references do.
    assert {"AWS_ACCESS_KEY_ID"} & found.variables == (
        {"AWS_ACCESS_KEY_ID"} if "AKIDENV" in expected else set()
    )


@pytest.mark.parametrize(
    ("text", "environment", "missing"),
    [
        (f"{REGION}=b-1\n", {}, ID),
        (f"{REGION}=b-1\n", {"AWS_ACCESS_KEY_ID": "x"}, SECRET),
        (f"{REGION}=b-1\n{ID}=x\n", {"AWS_SECRET_ACCESS_KEY": "canary"}, SECRET),
        (f"{REGION}=b-1\n", {**PAIR, "AWS_ACCESS_KEY_ID": ""}, ID),
        ("", PAIR, REGION),
        (f"{REGION}=b-1\nconfig.providers=file\n", PAIR, ID),
    ],
)
def test_an_empty_key_signs_nothing(tmp_path, text, environment, missing) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, text, environment)

    assert missing in str(refused.value)
    assert "standard AWS variables" in str(refused.value)
    assert "canary" not in str(refused.value)


def test_an_api_of_several_may_be_the_only_one(tmp_path) -> None:
    path = tmp_path / "c.properties"
    path.write_text(
        BASE.replace("auth.type=AWS_SIGV4\n", "")
        + f"apis.num=2\napi1.api.name=a\napi2.api.name=b\napi2.kafka.topic=b\n"
        f"api2.auth.type=aws-sigv4\napi2.{REGION}=b-1\n"
    )
    path.chmod(0o600)
    found = load([path], environment=PAIR)
    one, two = (api.values for api in found.connectors[0].apis)

    assert [None] * 4 == keys_of(one)
    assert ["AKIDENV", "canary-env", None, "b-1"] == keys_of(two)
