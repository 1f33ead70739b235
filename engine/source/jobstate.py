"""
JobState: what a position has of a job whose data is being fetched.

Owns its fields, beside those of the place in what the job has made, and how a job is read
back from them: who was killed goes on with the same one.

Path: `source.jobs`, `source.jobfiles` -> here
"""

from __future__ import annotations

from typing import Final

from msgspec import Raw, Struct
from msgspec import json as msgjson

from engine.errors import StateError
from engine.records import Offset, Primitive
from engine.source.paging.position import JOB, text_in, whole

#: How many of the files of a job are fetched.
FILE: Final = "job.file"


class CreatedJob(Struct, frozen=True):
    """
    A job that was created.

    Attributes:
        answer: What its creation was answered with, as far as requests name it.
        url: Where its status is asked for, or "".
        at_ms: When it was created.
        start: Where the poll began.
        poll: Its number.
    """

    answer: str
    url: str
    at_ms: int
    start: Offset | None
    poll: int

    @property
    def scope(self) -> dict[str, object]:
        """What requests may name of it."""
        return {"job": Raw(self.answer.encode()), "job_url": self.url}

    @property
    def fields(self) -> dict[str, Primitive]:
        """As a position keeps it."""
        start = "" if self.start is None else msgjson.encode(self.start).decode()
        return {
            "job": self.answer,
            "job.url": self.url,
            "job.at": self.at_ms,
            "job.from": start,
        }


def job_in(offset: Offset | None) -> CreatedJob | None:
    """The job that a position tells of, None if it is of none."""
    if offset is None or "job" not in offset or offset.get("done") is True:
        return None
    start = text_in(offset, "job.from")
    try:
        found = msgjson.decode(start, type=dict[str, Primitive]) if start else None
        msgjson.decode(text_in(offset, "job"))
    except ValueError as failure:
        raise StateError(f"the stored offset's job cannot be read: {failure}") from (
            failure
        )
    return CreatedJob(
        text_in(offset, "job"),
        text_in(offset, "job.url"),
        whole(offset, "job.at", 0),
        found,
        whole(offset, "poll", 1, least=1),
    )


def without_job(offset: Offset) -> Offset:
    """A position less what it has of a job."""
    return {name: value for name, value in offset.items() if name not in JOB}
