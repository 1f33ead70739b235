"""Secrets in files that are rotated under a running engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.config.reread import reread
from engine.config.sections.auth import AuthConfig
from engine.errors import Denied
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform
from tests.fakes.source import Source

PAGE = b'{"items":[1,2]}'


def guarded(good: Callable[[Peer], bool]) -> Callable[[Peer], None]:
    def act(peer: Peer) -> None:
        say = Say(body=PAGE) if good(peer) else Say(status=401, body=b'{"error":"no"}')
        perform(say, peer)

    return act


def secret_of(peer: Peer) -> str:
    """What the request carries, wherever it stands."""
    asked = peer.asked
    header = asked.header("authorization") or asked.header("x-api-key") or ""
    return f"{header} {asked.target} {asked.body.decode()}"


WAYS = {
    "BEARER": {"auth.type": "BEARER", "bearer.token": "${file:token}"},
    "API_KEY in the query": {
        "auth.type": "API_KEY", "api.key.name": "k", "api.key.location": "QUERY",
        "api.key.value": "${dir:secrets:token}",
    },
    "a header": {"http.source.headers": "X-Api-Key:Key ${file:token}"},
    "the query": {"http.source.query.params": "k=${file:token}"},
    "a body": {
        "http.source.method": "POST",
        "http.source.body": '{"key": "${file:token}"}',
    },
}  # fmt: skip


def write(folder: Path, text: str) -> None:
    (folder / "secrets").mkdir(exist_ok=True)
    for file in (folder / "token", folder / "secrets" / "token"):
        file.write_text(text)
        file.chmod(0o600)


@pytest.mark.parametrize("way", WAYS)
def test_a_rotated_secret_is_taken_up_at_the_first_401(
    tmp_path: Path, way: str
) -> None:
    write(tmp_path, "first-secret")
    good = ["first-secret"]
    act = guarded(lambda peer: good[0] in secret_of(peer))
    with (
        Misbehaving(act) as server,
        Source(tmp_path, server.url, {**WAYS[way], "max.retries": 0}) as source,
    ):
        assert 2 == len(source.records())
        good[0] = "second-secret"
        write(tmp_path, "second-secret")
        assert 2 == len(source.records())
        assert 2 == len(source.records())
        # One 401 in between, and none after it.
        assert 4 == len(server.asked)
        good[0] = "third-secret"
        write(tmp_path, "third-secret")
        assert 2 == len(source.records())

        assert 6 == len(server.asked)


def test_without_another_secret_a_401_is_one_request(tmp_path: Path) -> None:
    write(tmp_path, "first-secret")
    with (
        Misbehaving(guarded(lambda peer: False)) as server,
        Source(tmp_path, server.url, WAYS["BEARER"]) as source,
        pytest.raises(Denied, match="these credentials are refused"),
    ):
        source.poll()

    assert 1 == len(server.asked)


def test_a_file_that_is_gone_leaves_the_secret_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, "first-secret")
    with (
        Misbehaving(guarded(lambda peer: False)) as server,
        Source(tmp_path, server.url, WAYS["BEARER"]) as source,
    ):
        (tmp_path / "token").unlink()
        with pytest.raises(Denied):
            source.poll()

    assert 1 == len(server.asked)


def test_a_start_takes_up_what_was_rotated(tmp_path: Path) -> None:
    write(tmp_path, "first-secret")
    with Source(tmp_path, "http://127.0.0.1:1", WAYS["BEARER"]) as source:
        write(tmp_path, "second-secret")
        before, after = source.connector, reread(source.connector)

    told = [each.apis[0].values.of(AuthConfig).bearer_token for each in (before, after)]
    assert ["first-secret", "second-secret"] == [each.reveal() for each in told if each]
    assert after is reread(after)


def test_what_is_read_anew_keeps_to_the_paths_that_providers_may_read(
    tmp_path: Path,
) -> None:
    write(tmp_path, "first-secret")
    rule = {"config.providers.file.param.allowed.paths": str(tmp_path)}
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_text("not ours")
    with Source(tmp_path, "http://127.0.0.1:1", {**WAYS["BEARER"], **rule}) as source:
        (tmp_path / "token").unlink()
        (tmp_path / "token").symlink_to(outside)
        after = reread(source.connector)

    token = after.apis[0].values.of(AuthConfig).bearer_token
    assert token is not None
    assert "first-secret" == token.reveal()


def test_a_client_secret_is_read_anew_when_no_token_is_given(tmp_path: Path) -> None:
    write(tmp_path, "first-secret")

    def token(peer: Peer) -> None:
        if b"second-secret" in peer.asked.body:
            body = json.dumps({"access_token": "fresh", "expires_in": 3600}).encode()
            perform(Say(body=body), peer)
        else:
            perform(Say(status=401, body=b'{"error":"invalid_client"}'), peer)

    with (
        Misbehaving(token) as tokens,
        Misbehaving(guarded(lambda peer: "fresh" in secret_of(peer))) as server,
        Source(
            tmp_path,
            server.url,
            {
                "auth.type": "OAUTH2",
                "oauth2.token.url": f"{tokens.url}/token",
                "oauth2.client.id": "me",
                "oauth2.client.secret": "${file:token}",
                "oauth2.client.auth.mode": "URL",
            },
        ) as source,
    ):
        write(tmp_path, "second-secret")

        assert 2 == len(source.records())
        assert 2 == len(tokens.asked)
