"""
Ahead: how the pages of a poll are fetched, and handed over in order.

Owns the threads of `pagination.concurrent.*` and the bounds on what they may
fetch before anybody asks for it.  Knows neither HTTP nor Kafka: a course says
what to ask, an answer is something that can be called.

Path: `source.poll` -> here -> `source.paginate`, an answer -> Page, in order
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from engine.records import Page, Request, Response
from engine.seams import Stopping
from engine.source.walk import Course, Decoded

#: A request, sent and decoded; raises a SourceError, blocks as a Fetch does.
Answer: TypeAlias = Callable[[Request], tuple[Response, Decoded]]

#: Pause before the board is read again, in seconds.
BOARD_PAUSE: Final = 0.02


def one_by_one(course: Course, answer: Answer, stopping: Stopping) -> Iterator[Page]:
    """
    The pages of a course, fetched by whoever asks for them.

    Ends early when stopping is set while the course waits for other shards.

    Blocks: for each page until its answer is there.
    """
    # Hot path: no thread, no queue, no lock.
    while not course.over:
        request = course.ask()
        if request is None:
            if course.over or stopping.wait(BOARD_PAUSE):
                return
            continue
        response, decoded = answer(request)
        page = course.learn(request, response, decoded)
        if page is not None:
            yield page
