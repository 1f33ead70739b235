"""
Handshake: what both sides say on a new connection before records go over it.

Owns the order: which versions the broker speaks, then the login.  It is a
generator and knows no socket: it yields what is to be sent, or a call that may
block, and is given the answer.

Path: `sink.produce.connection` runs it, and the login once more before a session
ends (KIP-368).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias

import kafka.errors as foreign
from kafka.net.sasl import get_sasl_mechanism
from msgspec import Struct

from engine.sink.produce import messages
from engine.sink.produce.messages import Message, Versions

#: Part of a session after which it is renewed; Java draws from 85 to 95 of 100.
RENEWED = 0.85

#: Shortest session that is believed, seconds.
SHORTEST_SESSION = 1.0

Blocking: TypeAlias = Callable[[], Any]

#: Yields requests and calls that may block; is sent their answers.
Conversation: TypeAlias = Generator[Message | Blocking, Any, None]


class Manners(Struct, frozen=True):
    """
    What every connection says of us.

    Attributes:
        client_id: How brokers see us.
        software: Our version.
        login: Settings of kafka-python's mechanism, or None without a login.
    """

    client_id: str
    software: str
    login: Mapping[str, Any] | None = None


class Session(Struct):
    """
    What a connection has agreed on.

    Attributes:
        versions: What the broker speaks.
        features: What the cluster has agreed on (KIP-584): name and level.
        renew_in: Seconds after the login at which it is to be renewed, 0.0 for
            never.
    """

    versions: Versions
    renew_in: float = 0.0
    features: Mapping[str, int] = {}


def greet(manners: Manners, host: str, session: Session) -> Conversation:
    """
    A new connection: versions, then login.

    Raises: a kafka.errors.KafkaError.
    """
    version = messages.VERSIONS_ASKED
    while True:
        answer = yield messages.api_versions(version, manners.software)
        if answer.error_code == 0:
            break
        if answer.error_code != foreign.UnsupportedVersionError.errno or not version:
            raise foreign.for_code(answer.error_code)("asking for versions")
        version = 0
    session.versions = messages.spoken(answer)
    session.features = messages.features(answer)
    if manners.login is not None:
        yield from log_in(manners, host, session)


def log_in(manners: Manners, host: str, session: Session) -> Conversation:
    """
    Log in, or again.

    Raises: a kafka.errors.KafkaError.
    """
    assert manners.login is not None
    name = manners.login["sasl_mechanism"]
    answer = yield messages.sasl_handshake(name)
    if answer.error_code:
        raise foreign.for_code(answer.error_code)(
            f"the broker does not take sasl.mechanism={name}; "
            f"it takes {', '.join(answer.mechanisms)}"
        )
    try:
        mechanism = get_sasl_mechanism(name)(host=host, **manners.login)
    except (ValueError, RuntimeError) as error:
        raise foreign.KafkaConfigurationError(str(error)) from error
    lifetime = 0
    while not mechanism.is_done():
        # A mechanism may ask somebody for a token.
        token = yield mechanism.auth_bytes
        answer = yield messages.sasl_authenticate(token, session.versions)
        if answer.error_code:
            raise foreign.SaslAuthenticationFailedError(
                answer.error_message or foreign.for_code(answer.error_code).__name__
            )
        lifetime = getattr(answer, "session_lifetime_ms", 0) or 0
        try:
            mechanism.receive(bytes(answer.auth_bytes or b""))
        except (ValueError, KeyError) as error:
            raise foreign.SaslAuthenticationFailedError(str(error)) from error
    if not mechanism.is_authenticated():
        raise foreign.SaslAuthenticationFailedError(f"not authenticated by {name}")
    seconds = max(lifetime / 1000, SHORTEST_SESSION) if lifetime > 0 else 0.0
    session.renew_in = seconds * RENEWED
