"""A broker behind TLS and logins: who has the right words gets in, end to end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization
from msgspec import Struct

from tests.brokers import PATIENCE, Apache, Broker, apache_kafka, has_java
from tests.e2e.rig import Done, Setup
from tests.fakes.api import Api
from tests.needs import need

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

#: Of the one user, and with a sign that JAAS quotes.
WORD = "al=i ce"

MODULE = "org.apache.kafka.common.security"


class Guarded(Struct):
    """
    A broker with a door for each protocol.

    Attributes:
        broker: Its open door, for the tests' own eyes.
        doors: Protocol to address.
        folder: Holds `ca.pem`, and the client's `client.pem`: chain and key.
    """

    broker: Broker
    doors: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    need(has_java(), "Java or Maven")
    folder = tmp_path_factory.mktemp("doors")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    stranger = trustme.CA()
    stranger.cert_pem.write_to_path(folder / "another-ca.pem")
    for name, identity, authority in (
        ("server", "127.0.0.1", ca),
        ("client", "alice@example.com", ca),
        ("stranger", "eve@example.com", stranger),
    ):
        (folder / f"{name}.pem").write_bytes(chain_and_key(authority, identity))
    ports = free_ports(3)
    doors = dict(zip(("SASL_PLAINTEXT", "SSL", "SASL_SSL"), ports, strict=True))
    extra = [
        word
        for name, value in settings(doors, folder).items()
        for word in ("--set", f"{name}={value}")
    ]
    with apache_kafka(*extra) as broker:
        scram_user(broker)
        addresses = {name: f"127.0.0.1:{port}" for name, port in doors.items()}
        yield Guarded(broker, addresses, folder)


def chain_and_key(ca: trustme.CA, identity: str) -> bytes:
    """A certificate with its key, the key as Java reads it (PKCS 8)."""
    issued = ca.issue_cert(identity)
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
    return chain + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return found


def settings(doors: dict[str, int], folder: Path) -> dict[str, str]:
    """What makes a broker of `scripts/kafka` listen at these doors, too."""
    more = ",".join(f"{name}://127.0.0.1:{port}" for name, port in doors.items())
    open_door = f"PLAINTEXT://127.0.0.1:${{port}},{more}"
    names = (
        "CONTROLLER:PLAINTEXT",
        "PLAINTEXT:PLAINTEXT",
        *(f"{d}:{d}" for d in doors),
    )
    found = {
        "listeners": f"{open_door},CONTROLLER://127.0.0.1:${{controller}}",
        "advertised.listeners": open_door,
        "listener.security.protocol.map": ",".join(names),
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        # Who has no login shows a certificate.
        "listener.name.ssl.ssl.client.auth": "required",
    }
    for door in ("sasl_plaintext", "sasl_ssl"):
        prefix = f"listener.name.{door}"
        found[f"{prefix}.plain.sasl.jaas.config"] = (
            f'{MODULE}.plain.PlainLoginModule required user_alice="{WORD}";'
        )
        for mechanism in MECHANISMS[1:]:
            found[f"{prefix}.{mechanism.lower()}.sasl.jaas.config"] = (
                f"{MODULE}.scram.ScramLoginModule required;"
            )
    return found


def scram_user(broker: Apache) -> None:
    admin = AdminClient({"bootstrap.servers": broker.address})
    # A broker takes one change of a user at a time.
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        info = ScramCredentialInfo(mechanism, 4096)
        asked = UserScramCredentialUpsertion("alice", info, WORD.encode())
        [made] = admin.alter_user_scram_credentials([asked]).values()
        made.result(PATIENCE)


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=3, records=20) as found:
        yield found


def jaas(mechanism: str, word: str = WORD) -> str:
    kind = "plain.Plain" if mechanism == "PLAIN" else "scram.Scram"
    login = f'username="alice" password="{word}"'
    return f"{MODULE}.{kind}LoginModule required {login};"


def keys_of(guarded: Guarded, protocol: str, mechanism: str) -> dict[str, object]:
    """What a user with the right words writes for a door."""
    keys: dict[str, object] = {
        "bootstrap.servers": guarded.doors[protocol],
        "security.protocol": protocol,
    }
    if mechanism:
        keys |= {"sasl.mechanism": mechanism, "sasl.jaas.config": jaas(mechanism)}
    if protocol.endswith("SSL"):
        keys["ssl.truststore.location"] = guarded.folder / "ca.pem"
    if protocol == "SSL":
        keys["ssl.keystore.location"] = guarded.folder / "client.pem"
    return keys


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [
        ("SSL", ""),
        *(("SASL_PLAINTEXT", mechanism) for mechanism in MECHANISMS),
        *(("SASL_SSL", mechanism) for mechanism in MECHANISMS),
    ],
)
def test_the_right_words_open_every_door(
    tmp_path: Path, guarded: Guarded, api: Api, protocol: str, mechanism: str
) -> None:
    setup = Setup(
        tmp_path,
        f"{api.url}/page/0",
        guarded.broker,
        {
            "pagination.type": "page",
            "pagination.limit.value": 20,
            **keys_of(guarded, protocol, mechanism),
        },
    )

    done = setup.once()
    offsets = setup.call("offsets", "get", "--json")

    assert 0 == done.code, done.err
    assert api.all_records() == setup.values()
    assert 1 == len(offsets.document["offsets"])
    assert WORD not in done.err + done.out + offsets.err


WRONG: dict[str, tuple[str, str, dict[str, object]]] = {
    "a wrong password": (
        "SASL_PLAINTEXT",
        "PLAIN",
        {"sasl.jaas.config": jaas("PLAIN", "canary-word")},
    ),
    "a wrong password under SCRAM": (
        "SASL_SSL",
        "SCRAM-SHA-512",
        {"sasl.jaas.config": jaas("SCRAM-SHA-512", "canary-word")},
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_wrong_words_open_none_and_are_told_of(
    tmp_path: Path, guarded: Guarded, api: Api, what: str
) -> None:
    protocol, mechanism, wrong = WRONG[what]
    keys = {**keys_of(guarded, protocol, mechanism), **wrong}
    setup = Setup(tmp_path, f"{api.url}/none/0", guarded.broker, keys)

    done: Done = setup.once()

    assert done.code in (69, 77, 78), (done.code, done.err)
    assert guarded.doors[protocol] in done.err
    assert "Traceback" not in done.err
    assert "canary-word" not in done.err + done.out
    assert not guarded.broker.partitions(setup.topic)


#: What is wrong -> the keys that are, and what the error names.
WRONG_DOORS: dict[str, tuple[dict[str, str | None], tuple[str, ...]]] = {
    "no certificate": (
        {"ssl.keystore.location": None},
        ("client's certificate", "ssl.keystore.*"),
    ),
    "a certificate of another authority": (
        {"ssl.keystore.location": "stranger.pem"},
        ("client's certificate", "ssl.keystore.*"),
    ),
    "another authority trusted": (
        {"ssl.truststore.location": "another-ca.pem"},
        ("broker's certificate", "ssl.truststore.*"),
    ),
    "no TLS where the listener speaks it": (
        {
            "security.protocol": "PLAINTEXT",
            "ssl.keystore.location": None,
            "ssl.truststore.location": None,
        },
        ("speaks TLS", "security.protocol"),
    ),
}


@pytest.mark.parametrize("what", WRONG_DOORS)
def test_a_wrong_door_is_named_with_the_key_that_opens_it(
    tmp_path: Path, guarded: Guarded, api: Api, what: str
) -> None:
    wrong, named = WRONG_DOORS[what]
    keys = keys_of(guarded, "SSL", "")
    for key, value in wrong.items():
        keys.pop(key, None)
        if value is not None:
            file = guarded.folder / value
            keys[key] = file if file.exists() else value
    setup = Setup(tmp_path, f"{api.url}/none/0", guarded.broker, keys)

    done = setup.once()
    checked = setup.call("check", "--connect")

    assert (78, 69) == (done.code, checked.code), done.err + checked.err
    for each in named:
        assert each in done.err
        assert each in checked.err
    assert "Traceback" not in done.err + checked.err


def test_tls_where_the_listener_has_none_is_waited_for_and_asked_about(
    tmp_path: Path, guarded: Guarded, api: Api
) -> None:
    keys = keys_of(guarded, "SSL", "") | {"bootstrap.servers": guarded.broker.address}
    setup = Setup(tmp_path, f"{api.url}/none/0", guarded.broker, keys)

    checked = setup.call("check", "--connect")

    assert 69 == checked.code
    assert "does the listener speak TLS? See security.protocol" in checked.err
