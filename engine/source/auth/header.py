"""
Header: credentials that never change, in one header or one query parameter.

Path: `source.wire.http1` (a prepared shape) -> here; `task.build.auth` makes them
"""

from __future__ import annotations

import base64
from collections.abc import Hashable
from typing import Any
from urllib.parse import quote

import requests
from requests.auth import AuthBase

from engine.observe.redact import REDACTOR


class HeaderAuth(AuthBase):
    """
    BASIC, BEARER, and API_KEY in a header: one header that never changes.

    Attributes:
        query: Nothing is added to the target.
    """

    query = ""

    def __init__(self, name: str, value: str):
        self._name = name
        self._value = value
        REDACTOR.learn(value.partition(" ")[2] or value)

    def stamp(self) -> Hashable:
        """What was prepared with it stays good."""
        return True

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        r.headers[self._name] = self._value
        return r


def basic(user: str, password: str) -> HeaderAuth:
    """`auth.type=BASIC` (RFC 7617, UTF-8)."""
    REDACTOR.learn(password)
    pair = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return HeaderAuth("Authorization", f"Basic {pair}")


def bearer(token: str) -> HeaderAuth:
    """`auth.type=BEARER` (RFC 6750)."""
    return HeaderAuth("Authorization", f"Bearer {token}")


class QueryAuth(AuthBase):
    """API_KEY as a query parameter; it is in no URL that anybody else sees."""

    def __init__(self, name: str, value: str):
        self.query = f"{quote(name, safe='')}={quote(value, safe='')}"
        REDACTOR.learn(value)

    def stamp(self) -> Hashable:
        """What was prepared with it stays good."""
        return True

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        return r


def header_text(value: Any) -> str:
    """A header's value as requests holds it, bytes or text, as text (RFC 9110, 5.5)."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
