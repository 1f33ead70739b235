"""
Routes: which path is answered by what, and who may ask.

Owns the list of paths and methods, and the rules of who may write and from
where a browser may ask; it knows no socket, and computes nothing itself.

Every answer is made from one fresh picture.  What is not in the list is 404 in
Connect's words.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Sequence
from itertools import chain
from urllib.parse import urlsplit

from msgspec import Struct

from engine.admin import beans, connect, health, jolokia, prometheus
from engine.admin.answers import Answer, Question, json_answer, refusal
from engine.admin.prometheus import Measure
from engine.admin.view import View
from engine.admin.watch import Watch

READING = ("GET", "HEAD")


class Caller(Struct, frozen=True):
    """
    Where a request came in.

    Attributes:
        listener: Address of our own end.
        peer: Address of the other end.
    """

    listener: str
    peer: str

    @property
    def local(self) -> bool:
        """True if both ends are on loopback."""
        return is_loopback(self.listener) and is_loopback(self.peer)


def is_loopback(address: str) -> bool:
    """True for 127.0.0.0/8 and ::1, IPv4 written as IPv6 included."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


class Routes:
    """
    Answers questions.

    Args:
        view: What is running.
        watch: Looks at it.
        token: `admin.token`, or "": writing from loopback only.
        families: `metrics.names`.
        measure: Usage of a process.
    """

    def __init__(
        self,
        view: View,
        watch: Watch,
        *,
        token: str = "",
        families: Sequence[str] = (prometheus.NATIVE, prometheus.STRIMZI),
        measure: Measure,
    ) -> None:
        self._view = view
        self._watch = watch
        self._token = token
        self._families = families
        self._measure = measure

    def __call__(self, question: Question, caller: Caller) -> Answer:
        """The answer, refusals included; raises nothing that is foreseen."""
        refused = self._refused(question, caller)
        if refused is not None:
            return refused
        return self._routed(question)

    def _routed(self, question: Question) -> Answer:
        path = question.path
        match path.strip("/").split("/"):
            case [""]:
                return self._reading(question, lambda: connect.root(self._view))
            case ["health"] | ["health", "live" | "ready" | "metrics"]:
                return self._reading(question, lambda: self._health(question))
            case ["metrics"]:
                return self._reading(question, lambda: self._metrics(question))
            case ["jolokia", *_]:
                return self._jolokia(question)
            case ["connector-plugins"]:
                return self._reading(question, lambda: connect.plugins(self._view))
            case ["connectors", *_]:
                return self._reading(
                    question, lambda: connect.connectors(question, self._view)
                )
            case ["admin", "loggers", *_]:
                if question.method in (*READING, "PUT"):
                    return connect.loggers(question, self._view)
                return _not_allowed("GET, HEAD, PUT")
        return refusal(404, connect.NOT_FOUND)

    def _reading(self, question: Question, answered: Callable[[], Answer]) -> Answer:
        return answered() if question.method in READING else _not_allowed("GET, HEAD")

    def _health(self, question: Question) -> Answer:
        return health.answer(question, self._watch.look(), began=self._watch.began)

    def _metrics(self, question: Question) -> Answer:
        return prometheus.answer(
            question,
            self._watch.look(),
            self._view,
            families=self._families,
            measure=self._measure,
            began=self._watch.began,
        )

    def _jolokia(self, question: Question) -> Answer:
        if question.method not in (*READING, "POST"):
            return _not_allowed("GET, HEAD, POST")
        picture = self._watch.look()
        cards = [card for card in picture.cards if card.jmx]
        if not cards:
            return refusal(404, "jmx.enabled is false in every connector")
        every = chain(beans.http(picture), beans.connect(picture, self._view, cards))
        return jolokia.answer(question, every, seconds=picture.wall_ms // 1000)

    # --- who may ask -----------------------------------------------------

    def _refused(self, question: Question, caller: Caller) -> Answer | None:
        host = question.headers.get("host", "")
        # On loopback a foreign name can only be a browser that was led here by
        # a DNS answer.  Off loopback people use names of their own.
        if is_loopback(caller.listener) and not _names_loopback(host):
            return refusal(403, "This Host is not served here.")
        origin = question.headers.get("origin")
        if origin is not None and not _same_origin(origin, host):
            return refusal(403, "Requests of other origins are refused.")
        writing = question.method not in READING and question.method != "POST"
        return self._unwritable(question, caller) if writing else None

    def _unwritable(self, question: Question, caller: Caller) -> Answer | None:
        if not self._token:
            if caller.local:
                return None
            return refusal(403, "Without admin.token this listener is read-only.")
        given = question.headers.get("authorization", "")
        kind, _, token = given.partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(
            token.strip().encode(), self._token.encode()
        ):
            return None
        answer = refusal(401, "A bearer token is needed: admin.token.")
        challenge = (("WWW-Authenticate", 'Bearer realm="kafka-http-source"'),)
        return Answer(401, answer.body, answer.content_type, challenge)


def _not_allowed(allowed: str) -> Answer:
    answer = json_answer(405, {"error_code": 405, "message": connect.NOT_ALLOWED})
    return Answer(405, answer.body, answer.content_type, (("Allow", allowed),))


def _names_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname if _well_formed(host) else None
    return name is not None and (
        name == "localhost" or name.endswith(".localhost") or is_loopback(name)
    )


def _same_origin(origin: str, host: str) -> bool:
    return _well_formed(host) and origin.lower() == f"http://{host.lower()}"


def _well_formed(host: str) -> bool:
    try:
        parts = urlsplit(f"//{host}")
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
