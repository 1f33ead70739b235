"""
Route: a record's topic, key, timestamp and headers out of templates.

Owns what may be a topic's name, what null means in each place, and which
templates give the same answer for a whole page.  Knows no partition: that is
the sink's.

Path: `compile` -> here -> `engine.language`
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import tzinfo
from typing import Any, Final

from msgspec import Raw

from engine.errors import ConfigError, RecordError
from engine.language import (
    RECORD_NAMES,
    EvaluationError,
    LanguageError,
    Template,
    compile_template,
    parse_timestamp,
    plain,
    text_of,
)
from engine.language.nodes import Unique, children
from engine.language.templates import Expression
from engine.language.values import encode
from engine.later import pattern
from engine.records import KafkaHeaders, Page

_TOPIC: Final = pattern(r"[A-Za-z0-9._-]{1,249}")

#: Header converters by the short names of Connect's classes.
HEADER_CONVERTERS: Final = ("Simple", "String", "Json")

Scope = dict[str, Any]


#: How the names of Kafka's internal topics begin: __consumer_offsets and others.
INTERNAL = "__"


class RecordRouter:
    """
    The four templates of an api.

    Args:
        topic, key, timestamp: Templates' texts; None: null key, time of
            receipt.
        headers: Name and template of each record header.
        header_converter: Simple and String write text as it is, Json writes
            JSON.
        reserved: Topics no record may go to.
        zone: For times without an offset.

    Raises: ConfigError.
    """

    def __init__(
        self,
        *,
        topic: str,
        key: str | None = None,
        timestamp: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        header_converter: str = "Simple",
        reserved: Collection[str] = (),
        zone: tzinfo,
    ):
        def compiled(name: str, text: str) -> Template:
            try:
                return compile_template(text, RECORD_NAMES, zone)
            except LanguageError as e:
                raise ConfigError(f"{name}: {e}") from e

        if header_converter not in HEADER_CONVERTERS:
            raise ConfigError(
                f"header.converter: one of {', '.join(HEADER_CONVERTERS)}"
            )
        self.topic = compiled("kafka.topic", topic)
        self.key = None if key is None else compiled("kafka.key", key)
        self.timestamp = (
            None if timestamp is None else compiled("kafka.timestamp", timestamp)
        )
        self.headers = tuple(
            (name, compiled(f"kafka.headers: {name}", text)) for name, text in headers
        )
        self._json_headers = header_converter == "Json"
        self._reserved = frozenset(reserved)
        self.zone = zone
        self._legal: set[str] = set()
        if self.topic.constant:
            try:
                self.topic_of({})
            except RecordError as e:
                raise ConfigError(str(e)) from e

    @property
    def templates(self) -> list[Template]:
        """The four templates, those that are there."""
        found = [self.topic, *(template for _, template in self.headers)]
        found += [each for each in (self.key, self.timestamp) if each is not None]
        return found

    def topic_of(self, scope: Scope) -> str:
        """
        Raises: RecordError: null, empty, illegal or reserved.
        """
        return self.topic_from(_asked(self.topic, scope, "kafka.topic"))

    def topic_from(self, value: Any) -> str:
        """The topic of its template's value."""
        topic = _text("kafka.topic", value)
        if topic is None:
            raise RecordError(
                "kafka.topic: renders to null", stage="route", rule="kafka.topic"
            )
        return self.checked_topic(topic)

    def checked_topic(self, topic: str) -> str:
        """The topic if records may go there."""
        if topic in self._legal:
            return topic
        if _TOPIC.fullmatch(topic) is None or topic in (".", ".."):
            raise RecordError(
                "kafka.topic: not a legal topic name", stage="route", rule="kafka.topic"
            )
        if topic in self._reserved or topic.startswith(INTERNAL):
            whose = "Kafka's" if topic.startswith(INTERNAL) else "the engine's"
            raise RecordError(
                f"kafka.topic: {topic} holds {whose} own records",
                stage="route",
                rule="kafka.topic",
            )
        if len(self._legal) < 10_000:
            self._legal.add(topic)
        return topic

    def key_value(self, scope: Scope) -> Any:
        """
        What the key's converter is given; None for a null key.

        Raises: RecordError: a list.
        """
        if self.key is None:
            return None
        return single(_asked(self.key, scope, "kafka.key"))

    def timestamp_of(self, scope: Scope, default: int) -> int:
        """
        A record's timestamp, in epoch milliseconds.

        Raises: RecordError: no time, or one before 1970, which Kafka refuses.
        """
        if self.timestamp is None:
            return default
        value = _asked(self.timestamp, scope, "kafka.timestamp")
        return self.timestamp_from(value, default)

    def timestamp_from(self, value: Any, default: int) -> int:
        """The timestamp of its template's value."""
        rule = "kafka.timestamp"
        try:
            known = plain(value)
            if known is None:
                return default
            ms = parse_timestamp(known, self.zone)
        except EvaluationError as e:
            raise RecordError(f"{rule}: {e}", stage="route", rule=rule) from e
        if ms < 0:
            raise RecordError(f"{rule}: before 1970", stage="route", rule=rule)
        return ms

    def headers_of(self, scope: Scope) -> KafkaHeaders:
        """
        The headers, those that render to null left out.

        Raises: RecordError.
        """
        return self.headers_from(
            [
                _asked(template, scope, f"kafka.headers: {name}")
                for name, template in self.headers
            ]
        )

    def headers_from(self, values: Sequence[Any]) -> KafkaHeaders:
        """The headers of their templates' values."""
        found: list[tuple[str, bytes | None]] = []
        for (name, _), value in zip(self.headers, values, strict=True):
            rule = f"kafka.headers: {name}"
            try:
                if plain(value) is None:
                    continue
                if self._json_headers:
                    found.append((name, encode(value)))
                else:
                    found.append((name, (text_of(value) or "").encode()))
            except (EvaluationError, UnicodeEncodeError) as e:
                raise RecordError(f"{rule}: {e}", stage="route", rule=rule) from e
        return tuple(found)


def _asked(template: Template, scope: Scope, rule: str) -> Any:
    try:
        return template.value(scope)
    except EvaluationError as e:
        raise RecordError(f"{rule}: {e}", stage="route", rule=rule) from e


def _text(rule: str, value: Any) -> str | None:
    try:
        return text_of(value)
    except EvaluationError as e:
        raise RecordError(f"{rule}: {e}", stage="route", rule=rule) from e


def single(value: Any) -> Any:
    """
    A key's value, None for null.

    Raises: RecordError: a list, where one value is needed.
    """
    if type(value) is Raw:
        # Hot path: in most keys nothing can be wrong, 0.3 us in place of 1.4 to read them.
        text = bytes(value).decode("latin-1")
        if text.isascii() and (
            text.isprintable() and "\\" not in text
            if text.startswith('"')
            else len(text) < 19 and text.isdigit()
        ):
            return value
    try:
        known = plain(value)
    except EvaluationError as e:
        raise RecordError(f"kafka.key: {e}", stage="route", rule="kafka.key") from e
    if isinstance(known, list):
        raise RecordError("kafka.key: a list", stage="route", rule="kafka.key")
    return None if known is None else value


def varies(template: Template | None) -> bool:
    """False if a template gives the same answer for every record of a page."""
    if template is None:
        return False
    if "record" in template.names:
        return True
    rest = [part.node for part in template.parts if isinstance(part, Expression)]
    while rest:
        node = rest.pop()
        if isinstance(node, Unique):
            return True
        rest.extend(children(node))
    return False


class Provenance:
    """
    Headers that say where a record came from, the same after a retry.

    Source: `kafka.headers.provenance.enabled`.
    """

    def __init__(self, shard: str):
        self._shard = shard

    def of(self, page: Page) -> Callable[[int], KafkaHeaders]:
        """
        For a page: from a record's place in it to its headers.

        The page is named by the state's `seq` where the source gives it, else
        by its poll and place.
        """
        offset = page.offset
        seq = offset.get("seq")
        if seq is None:
            poll = offset.get("poll")
            seq = page.index if poll is None else f"{poll}.{page.index}"
        start = f"{self._shard}/{seq}/".encode()
        url = page.response.request.url.partition("#")[0].partition("?")[0]
        place = ("khttp-url", url.encode())

        def headers(index: int) -> KafkaHeaders:
            return (("khttp-id", b"%b%d" % (start, index)), place)

        return headers
