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
from functools import partial
from typing import Any, TypeAlias

from msgspec import Struct

from engine.sink import codes
from engine.sink.codec import Message
from engine.sink.codes import BrokerError
from engine.sink.produce import messages
from engine.sink.produce.messages import Versions
from engine.sink.sasl import Login, advance, steps

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
        login: Who logs in, None without a login.
    """

    client_id: str
    software: str
    login: Login | None = None


class NegotiatedSession(Struct):
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


def greet(manners: Manners, host: str, session: NegotiatedSession) -> Conversation:
    """
    A new connection: versions, then login.

    Raises: BrokerError, LoginRefused.
    """
    version = messages.VERSIONS_ASKED
    while True:
        answer = yield messages.api_versions(version, manners.software)
        if answer.error_code == 0:
            break
        if answer.error_code != codes.UNSUPPORTED_VERSION or not version:
            raise BrokerError(answer.error_code, "asking for versions")
        version = 0
    session.versions = messages.spoken(answer)
    session.features = messages.features(answer)
    if manners.login is not None:
        yield from log_in(manners, host, session)


def log_in(manners: Manners, host: str, session: NegotiatedSession) -> Conversation:
    """
    Log in, or again.

    Raises: BrokerError, LoginRefused.
    """
    assert manners.login is not None
    name = manners.login.mechanism
    answer = yield messages.sasl_handshake(name)
    if answer.error_code:
        raise BrokerError(
            answer.error_code,
            f"the broker does not take sasl.mechanism={name}; "
            f"it takes {', '.join(answer.mechanisms or ())}",
        )
    running = steps(manners.login)
    lifetime = 0
    said: bytes | None = None
    # A mechanism may ask somebody for a token.
    while (token := (yield partial(advance, running, said))) is not None:
        answer = yield messages.sasl_authenticate(token, session.versions)
        if answer.error_code:
            raise BrokerError(answer.error_code, answer.error_message or "")
        lifetime = getattr(answer, "session_lifetime_ms", 0) or 0
        said = answer.auth_bytes or b""
    seconds = max(lifetime / 1000, SHORTEST_SESSION) if lifetime > 0 else 0.0
    session.renew_in = seconds * RENEWED
