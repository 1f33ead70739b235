"""
Answers: an error inside an answer becomes a failure, whatever its status.

Owns `http.response.error.rules`, the errors of GraphQL, and what follows from
each: again, a pause, a fresh token, an empty page, the poll anew, an end.  Pure.

Path: `source.fetch.policy` (a refused status), `source.decode` (a usable one) -> here
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec
from msgspec import Raw, Struct

from engine.errors import (
    BadPage,
    Denied,
    SourceError,
    StartOver,
    Throttled,
    Unexpected,
    Unreachable,
)
from engine.language.comparing import equal
from engine.language.faults import EvaluationError
from engine.language.paths import Path, compile_path
from engine.language.regexes import compile_regex
from engine.language.values import MISSING, decode, plain, text_of
from engine.records import Response
from engine.source.decode.diagnosis import document_of, kind, line, told
from engine.source.wire.origin import shown

#: What an error rule may do.
ACTIONS: Final = (
    "RETRY", "RATE_LIMITED", "REFRESH_TOKEN", "EMPTY", "RESTART", "FAIL",
)  # fmt: skip

#: `extensions.code` (or `type`, as GitHub has it) of GraphQL errors, by what they mean:
#: Shopify, Linear, GitHub, Hasura, Apollo's own (ApolloServerErrorCode).
_LIMITS: Final = frozenset(
    {
        "THROTTLED", "RATE_LIMITED", "RATELIMITED", "RATE_LIMIT", "RATE_LIMIT_EXCEEDED",
        "TOO_MANY_REQUESTS", "COMPLEXITY_BUDGET_EXHAUSTED", "RATE_LIMIT_ERROR",
        "COMPLEXITYEXCEPTION",
    }
)  # fmt: skip
_DENIALS: Final = frozenset(
    {"UNAUTHENTICATED", "UNAUTHORIZED", "INVALID_JWT", "AUTHENTICATION_ERROR",
     "ACCESS_DENIED", "FORBIDDEN"}
)  # fmt: skip
#: Among those: a fresh token helps against none of these.
_FORBIDDEN: Final = frozenset({"ACCESS_DENIED", "FORBIDDEN"})
_PASSING: Final = frozenset(
    {"INTERNAL_SERVER_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT", "INTERNAL",
     "DOWNSTREAM_SERVICE_ERROR", "LOCK_TIMEOUT", "SERVICE_ERROR"}
)  # fmt: skip

#: Where GraphQL's errors stand.
ERRORS: Final = "errors"

#: Finds what stands at a path: a value, a list where the path asks for many, or MISSING.
Look: TypeAlias = Callable[[Path], Any]


class Statuses(Protocol):
    """A set of status codes: single ones, ranges and classes."""

    def __contains__(self, status: int, /) -> bool: ...


class Rule(Struct, frozen=True):
    """
    One of `http.response.error.rules`: which answers are errors, and of which kind.

    Attributes:
        action: One of `ACTIONS`.
        statuses: Which it is for, or None: any.
        header: Lower case, or None.
        field: A path in the body, or None.
        test: Of the value or MISSING.
        number: Its place in the list, from 1.
    """

    action: str
    statuses: Statuses | None
    header: str | None
    field: Path | None
    test: Callable[[Any], bool]
    number: int


class Errors:
    """
    How one api says that something is wrong.

    Args:
        rules: `http.response.error.rules`, checked when they were read.
        message: `http.response.error.message.field`, or None.
        partial: `http.response.graphql.partial=ALLOW`: data is kept whatever
            errors stand beside it.
        statuses: Reads what stands at `status`: a number, a text of codes and
            ranges, or a list of both.

    Attributes:
        fields: The paths that rules look at.
        message: Where the API's own text stands, or None.
        partial: As given.

    Raises: LanguageError.
    """

    def __init__(
        self,
        rules: Sequence[Mapping[str, Any]] = (),
        *,
        message: str | None = None,
        partial: bool = False,
        statuses: Callable[[Any], Statuses] | None = None,
    ):
        self.message = None if message is None else compile_path(message)
        self.partial = partial
        self._rules = [
            _rule(each, number, statuses) for number, each in enumerate(rules, 1)
        ]
        #: Whether there are rules.
        self.any = bool(self._rules)
        self.fields = tuple(
            dict.fromkeys(rule.field.text for rule in self._rules if rule.field)
        )

    def in_refusal(self, response: Response) -> SourceError | None:
        """What the first rule says that is for an answer of no usable status."""
        return self._first(response, _looking(response)) if self._rules else None

    def in_page(
        self, response: Response, found: Mapping[str, Any]
    ) -> SourceError | None:
        """
        What the first rule says that is for an answer that could be split.

        Hot path: what rules look at was found with the records.
        """
        if not self._rules:
            return None
        return self._first(response, lambda path: found.get(path.text, MISSING))

    def beside_data(self, response: Response, errors: Any) -> SourceError | None:
        """
        What GraphQL's errors mean on a page whose records were found, or None.

        They are GraphQL's only beside `data`, or where nothing else is there.
        """
        document = document_of(response)
        if isinstance(document, dict):
            if "data" not in document and document.keys() - {ERRORS, "extensions"}:
                return None
            data = document.get("data") is not None
        else:
            # Too long to be looked at as a whole: then it is not errors alone.
            data = True
        if self.partial and data:
            return None
        return _graphql(response, errors, data, self.message)

    def in_rubble(self, response: Response, *, json: bool) -> SourceError | None:
        """What is wrong with an answer that is no page of the api's, or None."""
        if self._rules:
            failure = self._first(response, _looking(response))
            if failure is not None:
                return failure
        if not json:
            return None
        document = document_of(response)
        if isinstance(document, dict) and ERRORS in document:
            data = document.get("data") is not None
            return _graphql(response, document[ERRORS], data, self.message)
        return None

    def _first(self, response: Response, look: Look) -> SourceError | None:
        for rule in self._rules:
            if rule.statuses is not None and response.status not in rule.statuses:
                continue
            if rule.header is not None:
                value: Any = response.header(rule.header)
                value = MISSING if value is None else value
            elif rule.field is not None:
                value = look(rule.field)
            else:
                return self._follows(rule, response)
            if rule.test(value):
                return self._follows(rule, response)
        return None

    def _follows(self, rule: Rule, response: Response) -> SourceError:
        said = told(response, self.message)
        text = (
            f"{line(response)} ({kind(response)}): error rule {rule.number} says "
            f"{rule.action}"
        )
        if said:
            text += f"; the API says: {said}"
        return _ACTS[rule.action](text, response)


class TreatedAsEmpty(SourceError):
    """An error rule says that this answer means an empty page; never leaves `source`."""


def _made(
    type_: Callable[..., SourceError], **more: Any
) -> Callable[[str, Response], SourceError]:
    def make(text: str, response: Response) -> SourceError:
        url = shown(response.url)
        made = type_(text, status=response.status, url=url, **more)
        made.ruled = True
        return made

    return make


_ACTS: Final[Mapping[str, Callable[[str, Response], SourceError]]] = {
    "RETRY": _made(Unreachable),
    "RATE_LIMITED": _made(Throttled),
    "REFRESH_TOKEN": _made(Denied, stale=True),
    "EMPTY": _made(TreatedAsEmpty),
    "RESTART": _made(StartOver),
    "FAIL": _made(Unexpected),
}


def _looking(response: Response) -> Look:
    """Paths into a body that is parsed when the first is asked for."""
    documents: list[Any] = []

    def look(path: Path) -> Any:
        if not documents:
            documents.append(document_of(response))
        if documents[0] is MISSING:
            return MISSING
        try:
            return path.get(documents[0])
        except (EvaluationError, msgspec.MsgspecError):
            return MISSING

    return look


def _rule(
    rule: Mapping[str, Any],
    number: int,
    statuses: Callable[[Any], Statuses] | None,
) -> Rule:
    test: Callable[[Any], bool] = _exists
    if "equals" in rule:
        test = _equal_to(rule["equals"])
    elif "matches" in rule:
        test = _matching(rule["matches"])
    elif rule.get("exists", True) is False:
        test = _absent
    field = rule.get("field")
    header = rule.get("header")
    wanted = None
    if "status" in rule:
        assert statuses is not None
        wanted = statuses(rule["status"])
    return Rule(
        action=rule["action"].upper(),
        statuses=wanted,
        header=None if header is None else header.lower(),
        field=None if field is None else compile_path(field),
        test=test,
        number=number,
    )


def _each(value: Any) -> Iterable[Any]:
    """The values of a path that asks for many, or the one there is."""
    value = plain(value)
    return value if isinstance(value, list) else (value,)


def _exists(value: Any) -> bool:
    """True for a value that is neither null nor empty: many APIs always send `error: null`."""
    if value is MISSING:
        return False
    value = plain(value)
    return value is not None and value not in ("", [], {})


def _absent(value: Any) -> bool:
    return not _exists(value)


def _equal_to(wanted: Any) -> Callable[[Any], bool]:
    several = wanted if isinstance(wanted, list) else [wanted]
    # The header says a truth as text.
    words = {True: "true", False: "false"}

    def test(value: Any) -> bool:
        if value is MISSING:
            return False
        return any(
            equal(item, one)
            or (
                isinstance(one, bool)
                and isinstance(item, str)
                and item.strip().lower() == words[one]
            )
            for item in _each(value)
            for one in several
        ) or equal(value, wanted)

    return test


def _matching(pattern: str) -> Callable[[Any], bool]:
    fits = compile_regex(pattern).matches

    def test(value: Any) -> bool:
        if value is MISSING:
            return False
        for item in _each(value):
            try:
                text = text_of(item)
                if text is not None and fits(text):
                    return True
            except EvaluationError:
                # Neither text nor short enough for the pattern: no match.
                continue
        return False

    return test


def _graphql(
    response: Response, errors: Any, data: bool, message: Path | None
) -> SourceError | None:
    """
    The failure that GraphQL's `errors` stand for, or None if they are none.

    Only a list of objects with a text `message` (GraphQL's specification, 7.1.2) is
    one: other APIs have members of that name, too.
    """
    try:
        listed = decode(errors) if isinstance(errors, Raw) else plain(errors)
    except EvaluationError:
        return None
    if not isinstance(listed, list):
        return None
    texts = [
        text
        for each in listed
        if isinstance(each, dict) and isinstance(text := each.get("message"), str)
    ]
    if not texts:
        return None
    codes = {code for each in listed for code in _codes(each)}
    said = told(response, message) or "; ".join(texts)[:200]
    text = f"{line(response)} ({kind(response)}): errors beside its data: {said}"
    if not data:
        text = f"{line(response)} ({kind(response)}): errors in place of data: {said}"
    status, url = response.status, shown(response.url)
    if codes & _LIMITS:
        return Throttled(text, status=status, url=url)
    if codes & _DENIALS:
        return Denied(text, stale=not codes & _FORBIDDEN, status=status, url=url)
    executed = any(isinstance(each, dict) and each.get("path") for each in listed)
    if codes & _PASSING or executed:
        # A resolver failed: asked again, and given up like a page that stays bad.
        return BadPage(text, status=status, url=url)
    return Unexpected(text, status=status, url=url)


def _codes(error: Any) -> Iterable[str]:
    if not isinstance(error, dict):
        return
    extensions = error.get("extensions")
    found = [error.get("type"), error.get("code")]
    if isinstance(extensions, dict):
        found += [extensions.get("code"), extensions.get("type")]
        classification = extensions.get("classification")
        found.append(classification)
    for code in found:
        if isinstance(code, str):
            yield code.upper().replace("-", "_")
