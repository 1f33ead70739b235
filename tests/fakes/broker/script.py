"""
What a test tells a broker to do with requests: errors, late, lost or torn replies.

    fake.script(EndTxnRequest, Lost())            # done, and the reply never comes
    fake.script(EndTxnRequest, Refuse(51), 3)     # three times, then as usual
    fake.script(ProduceRequest, Late(2.0, done=True))

A line of a script is used up by the requests that match it; what comes after them is
answered as usual.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Refuse:
    """An error code instead of what was asked for; nothing is done."""

    code: int


@dataclass(frozen=True)
class Say:
    """An error code although it is done."""

    code: int


@dataclass(frozen=True)
class Lost:
    """
    The connection ends without a reply.

    Args:
        done: Whether what was asked for is done first.
        cut: False: the connection stays, and nothing more comes over it.
    """

    done: bool = True
    cut: bool = True


@dataclass(frozen=True)
class Late:
    """
    Everything as asked, `seconds` later.

    Args:
        done: Whether only the reply is late, and not the deed.
    """

    seconds: float
    done: bool = False


@dataclass(frozen=True)
class Torn:
    """A reply that ends in the middle, with its connection."""

    share: float = 0.5


@dataclass(frozen=True)
class Garbled:
    """A reply whose bytes a test has changed."""

    change: Callable[[bytes], bytes]


Deed = Refuse | Say | Lost | Late | Torn | Garbled


@dataclass
class Line:
    """One deed for some requests of a kind."""

    kind: Any
    deed: Deed
    times: int
    when: Callable[[Any], bool]
    #: Set when the first request has met it.
    met: threading.Event = field(default_factory=threading.Event)

    @property
    def spent(self) -> bool:
        return self.times <= 0


class Script:
    """The lines that are left, in the order in which they were written."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._lock = threading.Lock()

    def add(
        self,
        kind: Any,
        deed: Deed,
        times: int = 1,
        when: Callable[[Any], bool] = lambda request: True,
    ) -> Line:
        line = Line(kind, deed, times, when)
        with self._lock:
            self._lines.append(line)
        return line

    def take(self, request: Any) -> Deed | None:
        """The deed for this request; None: as usual."""
        with self._lock:
            for line in self._lines:
                if line.spent or not isinstance(request, line.kind):
                    continue
                if line.when(request):
                    line.times -= 1
                    line.met.set()
                    return line.deed
        return None

    def clear(self) -> None:
        with self._lock:
            self._lines.clear()
