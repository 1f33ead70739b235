"""A principal with the rights of `docs/acls.md`, and with fewer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.brokers import PATIENCE, Apache
from tests.e2e.rig import Setup
from tests.fakes.api import Api

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(600)]

LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="alice" password="a" user_alice="a" user_bob="b";'
)
GUARDED = {
    "listeners": "SASL_PLAINTEXT://127.0.0.1:${port},"
    "CONTROLLER://127.0.0.1:${controller}",
    "advertised.listeners": "SASL_PLAINTEXT://127.0.0.1:${port}",
    "listener.security.protocol.map": "SASL_PLAINTEXT:SASL_PLAINTEXT,"
    "CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "SASL_PLAINTEXT",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.sasl_plaintext.plain.sasl.jaas.config": LOGIN,
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS;User:alice",
}
STATE = "kafka-http-source-offsets"
BOB = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule "
    'required username="bob" password="b";',
    "pagination.type": "page",
    "pagination.limit.value": 50,
}

Op = AclOperation


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=4, records=50) as found:
        yield found


def alice(broker: Apache) -> AdminClient:
    return AdminClient(
        {
            "bootstrap.servers": broker.address,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "alice",
            "sasl.password": "a",
        }
    )


def allow(broker: Apache, topic: str, *operations: Any) -> None:
    """Give bob rights on a topic, and no others."""
    wanted = [
        AclBinding(
            ResourceType.TOPIC,
            topic,
            ResourcePatternType.LITERAL,
            "User:bob",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for operation in operations
    ]
    admin = alice(broker)
    for done in admin.create_acls(wanted).values():
        done.result(PATIENCE)


def make_topic(broker: Apache, name: str, **config: str) -> None:
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin = alice(broker)
    topics = [NewTopic(name, 1, 1, config=settings)]
    [made] = admin.create_topics(topics).values()
    made.result(PATIENCE)


@pytest.mark.parametrize("own_apache", [GUARDED], indirect=True)
def test_the_documented_rights_are_enough_and_each_is_needed(
    own_apache: Apache, api: Api, tmp_path: Any
) -> None:
    setup = Setup(tmp_path, f"{api.url}/page/0", own_apache, BOB)

    nothing = setup.call("check", "--connect")
    assert nothing.code in (69, 78)
    assert "TOPIC_AUTHORIZATION_FAILED" in nothing.err

    make_topic(own_apache, setup.topic)
    make_topic(own_apache, STATE, cleanup_policy="compact")
    allow(own_apache, setup.topic, Op.DESCRIBE, Op.WRITE)
    allow(own_apache, STATE, Op.DESCRIBE, Op.READ, Op.WRITE)
    # DescribeConfigs is missing still: nothing false is said, and it starts.
    checked = setup.call("check", "--connect")
    done = setup.once()
    assert 0 == checked.code, checked.err
    assert 0 == done.code, done.err
    assert 200 == done.total["produced"]
    # The right to transactional ids is not among them, and its lack no reason to end.
    assert "delivery would be at least once: transactional id" in (
        checked.out + checked.err
    )
    assert "at least once although exactly.once.support=requested" in done.err
    assert "DescribeConfigs" in done.err
    assert "cleanup.policy=delete" not in done.err

    allow(own_apache, setup.topic, Op.DESCRIBE_CONFIGS)
    allow(own_apache, STATE, Op.DESCRIBE_CONFIGS)
    told = setup.once()
    assert 0 == told.code, told.err
    assert "DescribeConfigs" not in told.err


@pytest.mark.parametrize("own_apache", [GUARDED], indirect=True)
def test_a_topic_that_may_not_be_made_is_found_beforehand(
    own_apache: Apache, api: Api, tmp_path: Any
) -> None:
    setup = Setup(tmp_path, f"{api.url}/page/0", own_apache, BOB)
    make_topic(own_apache, STATE, cleanup_policy="compact")
    allow(own_apache, setup.topic, Op.DESCRIBE, Op.WRITE)
    allow(own_apache, STATE, Op.DESCRIBE, Op.READ, Op.WRITE)

    refused = setup.call("check", "--connect")
    assert 78 == refused.code, refused.err
    assert f"topic {setup.topic} is not there, and not created" in refused.err

    allow(own_apache, setup.topic, Op.CREATE)
    made = setup.call("check", "--connect")
    assert 0 == made.code, made.err
    assert f"topic {setup.topic} is not there: `run` creates it" in made.out

    setup.write(**{"topic.creation.enable": "false"})
    off = setup.call("check", "--connect")
    assert 78 == off.code
    assert "topic.creation.enable=false" in off.err


@pytest.mark.parametrize("own_apache", [GUARDED], indirect=True)
def test_the_right_to_the_transactional_ids_is_asked_for(
    own_apache: Apache, api: Api, tmp_path: Any
) -> None:
    setup = Setup(tmp_path, f"{api.url}/page/0", own_apache, BOB)
    make_topic(own_apache, setup.topic)
    make_topic(own_apache, STATE, cleanup_policy="compact")
    allow(own_apache, setup.topic, Op.DESCRIBE, Op.WRITE, Op.DESCRIBE_CONFIGS)
    allow(own_apache, STATE, Op.DESCRIBE, Op.READ, Op.WRITE, Op.DESCRIBE_CONFIGS)

    setup.write(**{"exactly.once.support": "required"})
    checked, refused = setup.call("check", "--connect"), setup.once()
    assert (78, 78) == (checked.code, refused.code), checked.err + refused.err
    for each in (checked, refused):
        assert f"transactional id kafka-http-source-{setup.name}-" in each.err

    setup.write(**{"exactly.once.support": "requested"})
    fallen = setup.once()
    assert 0 == fallen.code, fallen.err
    assert "Delivery is at least once although" in fallen.err

    prefix = f"kafka-http-source-{setup.name}-"
    rights = [
        AclBinding(
            ResourceType.TRANSACTIONAL_ID,
            prefix,
            ResourcePatternType.PREFIXED,
            "User:bob",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for operation in (Op.DESCRIBE, Op.WRITE)
    ]
    admin = alice(own_apache)
    for given in admin.create_acls(rights).values():
        given.result(PATIENCE)
    setup.write(**{"exactly.once.support": "required"})
    checked, done = setup.call("check", "--connect"), setup.once()
    assert (0, 0) == (checked.code, done.code), checked.err + done.err
