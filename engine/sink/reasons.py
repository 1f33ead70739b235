"""
Reasons: what keeps a client out of a broker, in words that say what to change.

Owns the reading of a connection's failure: TLS, logins, listeners that are none of
Kafka's.  Asks nobody.

Path: `sink.produce.nodes` hears that a connection has ended -> here
"""

from __future__ import annotations

import re

from engine.errors import Misconfigured, SinkError
from engine.sink import codes
from engine.sink.codes import BrokerError
from engine.sink.produce.wire import Garbled

#: What a connection that was ended by us, and not by the broker, says.
MUTE = "it takes the connection and does not answer"
CLOSED = "nothing answers at its address"
NAMELESS = "its name cannot be resolved (the name server does not answer)"
ENDED = "it takes the connection and closes it"


class LoginRefused(Exception):
    """The broker, or the mechanism itself, does not accept the login."""


#: Codes that only other rights or another login mend.
_REFUSED = frozenset({29, 30, 31, 33, 34, 53, 54, codes.SASL_AUTHENTICATION_FAILED, 65})

#: OpenSSL's names of what other keys mend, and those keys.
_TLS_REASONS = {
    r"CERTIFICATE_VERIFY_FAILED": (
        "the broker's certificate is not accepted; see ssl.truststore.* and "
        "ssl.endpoint.identification.algorithm"
    ),
    r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST": (
        "the listener does not speak TLS; see security.protocol"
    ),
    r"ALERT_(HANDSHAKE_FAILURE|PROTOCOL_VERSION)|UNSUPPORTED_PROTOCOL": (
        "no TLS version, cipher or certificate is right for both; see "
        "ssl.enabled.protocols, ssl.cipher.suites and ssl.keystore.*"
    ),
    r"ALERT_(\w*CERTIFICATE\w*|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR)": (
        "the broker does not accept the client's certificate, or misses one; see "
        "ssl.keystore.*"
    ),
}


#: What the other side's end of a connection looks like.
_ENDINGS = r"Connection reset by peer|Broken pipe"

#: How servers of other protocols begin: four bytes that Kafka reads as a length.
_STRANGERS = {
    b"HTTP": "an HTTP server",
    b"SSH-": "an SSH server",
    b"220 ": "a mail or FTP server",
    b"-ERR": "a Redis server",
}


def reason_of(error: Exception) -> tuple[str, bool]:
    """What keeps a client out, for people; True if only new keys let it in."""
    said = str(error)
    if isinstance(error, SinkError):
        return said, isinstance(error, Misconfigured)
    if isinstance(error, LoginRefused):
        return said, True
    if isinstance(error, BrokerError):
        if error.code == codes.UNSUPPORTED_VERSION:
            return "it does not speak as a broker; is it a controller's listener?", True
        return said, error.code in _REFUSED
    if found := re.search(r"\[SSL: (\w+)\]", said):
        for names, advice in _TLS_REASONS.items():
            if re.search(names, found[1]):
                return f"{advice} ({said})", True
        if found[1] == "UNEXPECTED_EOF_WHILE_READING":
            return f"{said}; does the listener speak TLS? See security.protocol", False
    if found := re.fullmatch(r"Invalid frame length: (-?\d+)", said):
        return _stranger(int(found[1]))
    if isinstance(error, Garbled):
        return f"it does not speak Kafka's protocol ({said})", False
    if said == ENDED or re.search(_ENDINGS, said):
        return f"{ENDED}; does the listener want a login? See security.protocol", False
    return said or type(error).__name__, False


def _stranger(length: int) -> tuple[str, bool]:
    # The length of a frame that is the head of a TLS alert (RFC 8446, 5.1).
    if length >> 16 in (0x1503, 0x1603):
        return "the listener speaks TLS; see security.protocol", True
    head = (length & 0xFFFFFFFF).to_bytes(4, "big")
    if head in _STRANGERS:
        return f"{_STRANGERS[head]} listens there, and no broker of Kafka", True
    return "it does not speak Kafka's protocol; see bootstrap.servers", False
