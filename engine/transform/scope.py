"""
Scope: what holds for all records of a page.

Owns the names that templates may ask of a page, only those that these do ask for, what
is the same for every record where no template looks at one, and what a function of the
user's is told of its page.

Path: `transform.page` -> here -> `transform.route`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw, Struct

from engine.errors import RecordError
from engine.language import MISSING, EvaluationError
from engine.language.values import opened
from engine.records import KafkaHeaders, Page, Shard
from engine.transform.function import Context
from engine.transform.general import Scope
from engine.transform.route import RecordRouter, varies
from engine.transform.rules import Rules


class Constant(Struct):
    """What is the same for every record of a page; `size` is the headers'."""

    topic: str
    stamp: int
    headers: KafkaHeaders
    size: int


class PageScope:
    """
    The names and constants of an api's pages.

    Args:
        rules, routes: Whose templates say which names are asked for.
        connector: Its name for people.
        window: Writes the bounds of a window.
    """

    def __init__(
        self,
        rules: Rules,
        routes: RecordRouter,
        *,
        shard: Shard,
        connector: str,
        window: Callable[[int], Any],
    ):
        self._routes = routes
        self._shard = shard
        self._connector = connector
        self._window = window
        self._topic_varies = varies(routes.topic)
        self._stamp_varies = varies(routes.timestamp)
        self._headers_vary = any(varies(t) for _, t in routes.headers)
        names: set[str] = set()
        for template in routes.templates:
            names |= template.names
        for rule in rules.enrichment:
            if rule.template is not None:
                names |= rule.template.names
        #: What the templates ask for beside the record: roots of the scope.
        self.names = frozenset(names)
        #: What no page changes but for its time of receipt.
        self._fixed = not names and not (
            self._topic_varies or self._stamp_varies or self._headers_vary
        )
        self._constants: Constant | None = None

    def scope(self, page: Page) -> Scope:
        """The page's own names, only those that a template asks for."""
        names = self.names
        scope: Scope = {"record": MISSING, "received": MISSING}
        if not names:
            return scope
        response = page.response
        scope["now"] = response.received_ms
        scope["api"] = self._shard.api
        scope["connector"] = self._connector
        scope["task"] = page.task
        scope["entityName"] = page.entity
        if "parent" in names or "parent_value" in names:
            scope["parent"] = MISSING if page.parent is None else opened(page.parent)
            scope["parent_value"] = page.parent_value
        if page.window is not None:
            for name, ms in zip(("window.start", "window.end"), page.window):
                scope[name] = self._window(ms)
        if "response" in names:
            try:
                scope["response"] = opened(Raw(bytes(response.body)))
            except EvaluationError:
                # The body is no JSON (csv, text): it has no fields.
                scope["response"] = MISSING
        if "response.header" in names:
            scope["response.header"] = {
                name: response.header(name) for name, _ in response.headers
            }
        return scope

    def constant(self, page: Page, scope: Scope) -> Constant | RecordError:
        """What holds for all of the page, or why none of it can be routed."""
        if self._constants is not None and self._routes.timestamp is None:
            self._constants.stamp = page.response.received_ms
            return self._constants
        routes = self._routes
        try:
            headers: KafkaHeaders = ()
            if routes.headers and not self._headers_vary:
                headers = routes.headers_of(scope)
            stamp = page.response.received_ms
            if routes.timestamp is not None and not self._stamp_varies:
                stamp = routes.timestamp_of(scope, stamp)
            topic = "" if self._topic_varies else routes.topic_of(scope)
        except RecordError as error:
            return error
        constant = Constant(topic, stamp, headers, size_of(headers))
        if self._fixed:
            self._constants = constant
        return constant

    def context(self, page: Page) -> Context:
        return Context(
            self._connector,
            self._shard.api,
            page.task,
            page.entity,
            page.index,
            page.response.url.partition("?")[0],
            page.response.status,
            page.response.received_ms,
        )


def size_of(headers: KafkaHeaders) -> int:
    return sum(len(name.encode()) + len(value or b"") for name, value in headers)
