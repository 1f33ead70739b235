"""
SASL: what a client says to log in, step by step.

Owns PLAIN (RFC 4616), SCRAM (RFC 5802, 7677) and OAUTHBEARER (RFC 7628, KIP-342) as
generators that know no socket: each yields what is to be sent and is given what was
answered.

Path: `sink.produce.handshake` runs one on a new connection, and again before its
session ends -> here
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator, Mapping
from typing import TypeAlias

from msgspec import Struct

from engine.sink.reasons import LoginRefused

#: Iterations above which a broker is not believed: each costs the processor.
MOST_ITERATIONS = 1_000_000

#: Yields what is to be sent, is given what was answered; ends once logged in.
Steps: TypeAlias = Generator[bytes, bytes, None]


class Login(Struct, frozen=True):
    """
    The user that logs in, and the mechanism.

    Attributes:
        mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.
        token: Gives a valid token; may block.  OAUTHBEARER's alone.
        extensions: SASL extensions (KIP-342).
    """

    mechanism: str
    user: str = ""
    password: str = ""
    token: Callable[[], str] = str
    extensions: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Login({self.mechanism})"


def steps(login: Login) -> Steps:
    """
    The mechanism's part of a login.

    Raises: LoginRefused from within, where the broker proves nothing or refuses.
    """
    if login.mechanism == "PLAIN":
        return _plain(login)
    if login.mechanism == "OAUTHBEARER":
        return _bearer(login)
    return _scram(login)


def advance(running: Steps, answer: bytes | None) -> bytes | None:
    """
    The next bytes to send, None once the mechanism has nothing more to say.

    Args:
        answer: None at the beginning.

    Raises: as `steps`.  Blocks: for a token, or for what SCRAM costs the processor.
    """
    try:
        return next(running) if answer is None else running.send(answer)
    except StopIteration:
        return None


def _plain(login: Login) -> Steps:
    answer = yield f"\0{login.user}\0{login.password}".encode()
    if answer:
        raise LoginRefused("not authenticated by PLAIN")


def _bearer(login: Login) -> Steps:
    pairs = "".join(f"\1{name}={value}" for name, value in login.extensions.items())
    answer = yield f"n,,\1auth=Bearer {login.token()}{pairs}\1\1".encode()
    if answer:
        # The error is taken in with a single byte, to which the broker answers with
        # its refusal (RFC 7628, 3.2.3).
        yield b"\1"
        raise LoginRefused(f"not authenticated by OAUTHBEARER: {answer!r}")


def _scram(login: Login) -> Steps:
    algorithm = "sha512" if login.mechanism.endswith("512") else "sha256"
    # Commas and equal signs would end the field (RFC 5802, 5.1).
    user = login.user.replace("=", "=3D").replace(",", "=2C")
    nonce = secrets.token_hex(16)
    first = f"n={user},r={nonce}"
    answer = yield f"n,,{first}".encode()
    told = _pairs(answer)
    try:
        salt, iterations = b64decode(told["s"]), int(told["i"])
        whole = told["r"]
    except (KeyError, ValueError) as error:
        raise LoginRefused(f"the broker's SCRAM message lacks {error}") from error
    if not whole.startswith(nonce) or not 0 < iterations <= MOST_ITERATIONS:
        raise LoginRefused("the broker's SCRAM message is none")
    final = f"c=biws,r={whole}"
    talk = b",".join((first.encode(), answer, final.encode()))
    salted = hashlib.pbkdf2_hmac(algorithm, login.password.encode(), salt, iterations)
    key = hmac.digest(salted, b"Client Key", algorithm)
    stored = hashlib.new(algorithm, key).digest()
    signature = hmac.digest(stored, talk, algorithm)
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    answer = yield f"{final},p={b64encode(proof).decode()}".encode()
    told = _pairs(answer)
    if "e" in told:
        raise LoginRefused(f"not authenticated by {login.mechanism}: {told['e']}")
    server = hmac.digest(salted, b"Server Key", algorithm)
    expected = b64encode(hmac.digest(server, talk, algorithm)).decode()
    if not hmac.compare_digest(told.get("v", "").encode(), expected.encode()):
        raise LoginRefused("the broker does not know the password itself (SCRAM)")


def _pairs(message: bytes) -> dict[str, str]:
    text = message.decode(errors="replace")
    return {
        name: value for name, _, value in (p.partition("=") for p in text.split(","))
    }
