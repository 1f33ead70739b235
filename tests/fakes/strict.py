"""
Strict: an API that refuses what goes over its limit.

Owns the counting: a window that slides, of which it tells nothing, or windows
side by side, which it tells in the headers of the IETF's draft.

Path: tests -> here -> `tests.fakes.api`
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from typing import Any

from tests.fakes.api import Answer, Api, Asked


class Strict(Api):
    """
    Args:
        limit: Requests in a window.
        window: Its length in seconds; whole ones where it is told.
        tell: The windows stand side by side and are told in each answer.
        answers: As for `Api`.

    Attributes:
        served: When each request that was let in came.
        refused: By number of the window: requests that got a 429.
    """

    def __init__(
        self, limit: int, window: float = 1.0, *, tell: bool = False, **answers: Any
    ):
        self.limit = limit
        self.window = window
        self.tell = tell
        self.served: list[float] = []
        self.refused: Counter[int] = Counter()
        self._recent: deque[float] = deque()
        self._judging = threading.Lock()
        super().__init__(**answers)

    def answer(self, asked: Asked) -> Answer:
        with self._judging:
            headers = self._judge(time.monotonic())
        status, lines, body = super().answer(asked)
        if headers is None or dict(headers).get("Retry-After"):
            return 429, headers or [], b"{}"
        return status, [*lines, *headers], body

    def _judge(self, now: float) -> list[tuple[str, str]] | None:
        """None or a Retry-After: refused."""
        number = int(now / self.window)
        start = number * self.window if self.tell else now - self.window
        recent = self._recent
        while recent and recent[0] <= start:
            recent.popleft()
        room = self.limit - len(recent)
        reset = str(math.ceil((number + 1) * self.window - now))
        told = [
            ("RateLimit-Policy", f'"w";q={self.limit};w={int(self.window)}'),
            ("RateLimit", f'"w";r={max(0, room - 1)};t={reset}'),
        ]
        if room <= 0:
            self.refused[number] += 1
            return [*told, ("Retry-After", reset)] if self.tell else None
        recent.append(now)
        self.served.append(now)
        return told if self.tell else []
