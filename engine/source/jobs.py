"""
Jobs: apis whose data has to be asked for before it can be fetched.

Owns a poll in three steps: a job is created, its status is asked until it is done, and
what it has made is fetched, by the pages of the api or from the URLs that the status
names. The position has the job from its creation on, so that who was killed goes on
with it and creates no second one. Each of the three steps is read back from the state,
whichever of them a kill has cut.

Path: `task.flow` -> here -> `source.poll` walks what the job has made; `source.jobstate`,
`source.jobfiles`
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw, Struct
from msgspec import json as msgjson
from msgspec.structs import replace

from engine.clock import SYSTEM, Clock
from engine.errors import (
    BadPage,
    SourceError,
    Unexpected,
    Unreachable,
)
from engine.language.paths import compile_path, placed
from engine.later import later
from engine.records import Offset, Page, Request, Response
from engine.seams import Fetch, Stopping
from engine.source.decode.decoder import Decode, Decoded
from engine.source.decode.diagnosis import bad_page
from engine.source.jobfiles import JobFiles
from engine.source.jobstate import FILE, CreatedJob, job_in, without_job
from engine.source.paging.envelope import Fields
from engine.source.paging.links import without
from engine.source.paging.pager import Note
from engine.source.paging.position import plain_value, whole
from engine.source.paging.request import Shape
from engine.source.paging.windows import WindowPager
from engine.source.poll import Poll
from engine.source.wire.origin import shown

if TYPE_CHECKING:
    from email import utils as dates
else:
    dates = later("email.utils")

log = logging.getLogger("source")

#: Statuses by which an API says that it knows a job no longer.
UNKNOWN: Final = frozenset({404, 410})

#: What requests may name of a job that was created, and of one that is done.
CREATED: Final = frozenset({"job", "job_url"})
STATUS: Final = frozenset({"status"})

#: Those by which it says that what a job has made is there no longer: signed URLs end.
EXPIRED: Final = frozenset({400, 403, 404, 410})


class JobKeys(Struct, frozen=True, kw_only=True):
    """
    The keys `http.job.*` of one api.

    Attributes:
        interval, timeout: Seconds between two looks, and for a job to be done.
        state: Where the status stands in an answer, or None: 202 is pending.
        done, failed: Values of it, in lower case; any other one is pending.
        files: Where the URLs of what the job has made stand, or None: the requests
            of the api itself fetch it.
    """

    interval: float = 5.0
    timeout: float = 3600.0
    state: str | None = None
    done: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    files: str | None = None


class JobSteps(Struct, frozen=True, kw_only=True):
    """
    What a job is asked with.

    Attributes:
        create: Makes the request that creates it.
        status: Makes the one that asks for its status, or None: the Location of the
            answer to the first is asked for.
        result: Makes one that is asked once it is done, or None.
        pages: Makes the api's own requests; tells which fields of the job they name.
        ask: Creates: a request whose end is unknown is not sent again.
        look: Sends the others; nothing of them comes out of a cache.
        decode: Splits their answers.
        follow: (URL asked, reference) to the URL it leads to, or Forbidden.
        cut: Names of query parameters that carry credentials.
    """

    create: Shape
    status: Shape | None
    result: Shape | None
    pages: Shape
    ask: Fetch
    look: Fetch
    decode: Decode
    follow: Callable[[str, str], str]
    cut: frozenset[str] = frozenset()

    def next(
        self,
        job: CreatedJob | None,
        now_ms: int,
        scope: Mapping[str, object] | None = None,
    ) -> Request:
        """What is asked first: for a job's status, or to create one."""
        if job is None:
            return self.create.begin(now_ms, scope)(0)
        if self.status is None:
            return self.create.begin(now_ms, scope).follow(0, job.url)
        return self.status.begin(now_ms, {**(scope or {}), **job.scope})(0)


class JobPoll(Poll):
    """
    The polls of an api that makes its data by jobs.

    Args: as `Poll`, and
        keys, steps: Of its jobs.
        note: Told the name of each counter that goes up.
    """

    def __init__(
        self, *args: Any, keys: JobKeys, steps: JobSteps, note: Note, **more: Any
    ):
        super().__init__(*args, **more)
        self._keys = keys
        self._steps = steps
        self._note = note
        self._fields = Fields({"state": keys.state, "files": keys.files})
        self._wall: Clock = more.get("clock", SYSTEM)
        self._until: Stopping = more["stopping"]
        named = [steps.status, steps.result, steps.pages]
        #: Whether anybody asks where the Location of a job leads.
        self._follows = steps.status is None or any(
            "job_url" in place.template.names
            for shape in named
            if shape
            for place in shape.places()
        )
        self._named = tuple(
            dict.fromkeys(
                path for shape in named if shape for path in shape.paths("job")
            )
        )

    def pages(
        self,
        offset: Offset | None,
        *,
        scope: Mapping[str, object] | None = None,
        number: int | None = None,
    ) -> Generator[Page]:
        """
        As `Poll`: an empty page comes first, whose position has the job.

        Raises: as `Poll`; Unexpected for a job that has failed, Unreachable for one
            that was not done in time.
        Blocks: until the job is done; stopping ends it.
        """
        windows = self._paginator.windows
        if windows is None:
            yield from self._job(offset, scope, number, None)
            return
        while True:
            bare = None if offset is None else without_job(offset)
            now = self._wall.wall_ms()
            window = windows.start(self._paginator, bare, now, scope, number)
            bounds = window.due()
            if bounds is None:
                # It says where the shard stands behind a poll without a page.
                window.ask()
                return
            page = None
            for page in self._job(offset, {**(scope or {}), **bounds}, number, window):
                yield page
            if page is None or page.last or "job" in page.offset:
                # Cut, or all that is due.
                return
            offset = page.offset

    # -- inside ----------------------------------------------------------------------

    def _job(
        self,
        offset: Offset | None,
        scope: Mapping[str, object] | None,
        number: int | None,
        window: WindowPager | None,
    ) -> Generator[Page]:
        """One job, of a poll or of a window; arguments as for `pages`."""
        job = job_in(offset)
        start = offset
        if job is not None:
            place = None if offset is None or offset.get("job.begun") else offset
            try:
                yield from self._made(job, place, scope, number, window, resumed=True)
                return
            except _Gone as failure:
                self._anew(failure)
            start = job.start
        job, page = self._create(start, scope, number, window)
        yield page
        try:
            yield from self._made(job, None, scope, number, window, resumed=False)
        except _Gone as failure:
            raise failure.cause from failure

    def _anew(self, failure: Exception) -> None:
        log.warning("Another job is created: %s", failure)
        self._note("polls_restarted_total")

    def _create(
        self,
        start: Offset | None,
        scope: Mapping[str, object] | None,
        number: int | None,
        window: WindowPager | None,
    ) -> tuple[CreatedJob, Page]:
        """A new job, and the page that tells of it."""
        now = self._wall.wall_ms()
        request = self._steps.next(None, now, scope)
        response = self._steps.ask(request)
        decoded = self._steps.decode(response)
        answer: Any = {}
        record = decoded.records[0] if decoded.records else Raw(b"{}")
        for text in self._named:
            path = compile_path(text)
            value = plain_value(path.get(record))
            if value is not None:
                answer = placed(answer or None, path.steps, value)
        url, reference = "", response.header("location")
        if self._steps.status is None and not reference:
            raise BadPage(
                "the job that was created has no Location: http.job.status.url "
                "says where its status is asked for",
                url=shown(response.url),
            )
        if reference and self._follows:
            url = without(self._steps.follow(response.url, reference), self._steps.cut)
        poll = number
        if window is not None:
            # Where it stands is in the position itself.
            poll, start = window.poll, None
        if poll is None:
            poll = 1
            if start is not None:
                poll = whole(start, "poll", 1, least=1) + (start.get("done") is True)
        job = CreatedJob(msgjson.encode(answer).decode(), url, now, start, poll)
        known = {**(scope or {}), **job.scope}
        for shape in (self._steps.status, self._steps.result, self._steps.pages):
            if shape is not None:
                self._require(CREATED, shape, known, response)
        log.info("A job was created: %s", shown(url or response.url))
        here: Offset = {"poll": poll, "done": False}
        if window is not None:
            here = window.here()
        position = {**here, **job.fields, "job.begun": True}
        # It is of no poll's pages: nothing compares it with another one.
        told = replace(response, request=replace(request, chained=True))
        return job, Page(
            response=told, index=-1, records=[], offset=position, last=False
        )

    def _made(
        self,
        job: CreatedJob,
        offset: Offset | None,
        scope: Mapping[str, object] | None,
        number: int | None,
        window: WindowPager | None,
        *,
        resumed: bool,
    ) -> Generator[Page]:
        """
        Wait until a job is done, and fetch what it has made.

        Args:
            offset: How far that was fetched, or None: not at all.
        """
        known: dict[str, object] = {**(scope or {}), **job.scope}
        found = self._wait(job, known, resumed=resumed)
        if found is None:
            return
        request, response, decoded = found
        known["status"] = decoded.records[0] if decoded.records else None
        result = self._steps.result
        if result is not None:
            self._require(STATUS, result, known, response)
            request = result.begin(self._wall.wall_ms(), known)(0)
            response = self._steps.look(request)
            decoded = self._steps.decode(response)
            known["status"] = decoded.records[0] if decoded.records else None
        self._require(STATUS, self._steps.pages, known, response)
        if self._keys.files is None:
            inner = job.start if window is None else window.here()
            if offset is not None:
                inner = without_job(offset)
            pages = super().pages(inner, scope=known, number=number)
        else:
            urls = self._files(request, decoded)
            first = 0 if offset is None else whole(offset, FILE, 0)
            start = self._steps.pages.begin(self._wall.wall_ms(), known)
            ends: tuple[Offset, Offset] = (
                {"poll": job.poll, "done": False},
                {"poll": job.poll, "done": True},
            )
            piece = None
            if window is not None:
                here, piece = window.here(), window.piece
                ends = here, window.behind()
            pages = self._walk(
                JobFiles(urls, start, first=first, ends=ends, window=piece)
            )
            if first >= len(urls):
                # It has made nothing, or all of it was fetched.
                nothing = Response(
                    request=request,
                    url=request.url,
                    status=200,
                    headers=(),
                    body=b"",
                    sent_at=0.0,
                    received_ms=0,
                )
                yield Page(
                    response=nothing,
                    index=0,
                    records=[],
                    offset=ends[1],
                    last=ends[1]["done"] is True,
                )
                return
        fetched = False
        try:
            for page in pages:
                fetched = True
                if not _behind(page.offset, window):
                    page = replace(page, offset={**page.offset, **job.fields})
                yield page
        except SourceError as failure:
            if resumed and not fetched and failure.status in EXPIRED:
                raise _Gone(f"its data is there no longer: {failure}", failure) from (
                    failure
                )
            raise

    def _require(
        self,
        names: frozenset[str],
        shape: Shape,
        scope: Mapping[str, object],
        response: Response,
    ) -> None:
        """
        Refuse to ask for something else, because what a request names is not there.

        A query parameter without a value would be left out, a body's be null.

        Raises: BadPage: with the key, and what the answer has.
        """
        later = STATUS - names
        found = shape.missing(names, scope, self._wall.wall_ms(), later)
        if found is None:
            return
        key, text = found
        if "job_url" in text and not scope["job_url"]:
            text += " (its Location)"
        raise BadPage(
            bad_page(
                response,
                f"{key} names {text}, which has no value here: name a field that is "
                "there, or coalesce(..., ...) where it may be missing",
            ),
            status=response.status,
            url=shown(response.url),
        )

    def _wait(
        self, job: CreatedJob, scope: Mapping[str, object], *, resumed: bool
    ) -> tuple[Request, Response, Decoded] | None:
        """The answer that says that a job is done; None: stopping."""
        keys, steps = self._keys, self._steps
        pause = 0.0 if resumed else min(keys.interval, 1.0)
        while True:
            if self._until.wait(pause) if pause else self._until.is_set():
                return None
            now = self._wall.wall_ms()
            request = steps.next(job, now, scope)
            try:
                response = steps.look(request)
            except SourceError as failure:
                if failure.status in UNKNOWN:
                    raise _Gone("the API knows the job no longer", failure) from failure
                raise
            decoded = steps.decode(response)
            state = self._state(response, decoded)
            if not state or state in keys.done:
                return request, response, decoded
            if state in keys.failed:
                said = bytes(response.body[:300]).decode(errors="replace")
                why = Unexpected(
                    f"the job has failed: its status is {state}: {said}",
                    status=response.status,
                    url=shown(request.url),
                )
                if resumed:
                    raise _Gone(str(why), why)
                raise why
            if now - job.at_ms > keys.timeout * 1000:
                late = Unreachable(
                    f"the job was not done within {keys.timeout:.0f} s "
                    f"(http.job.timeout.ms); its status is {state}",
                    status=response.status,
                    url=shown(request.url),
                )
                if resumed:
                    raise _Gone(str(late), late)
                raise late
            pause = max(keys.interval, _retry_after(response, now))

    def _state(self, response: Response, decoded: Decoded) -> str:
        """In lower case; "" where the answer itself says that it is done."""
        if self._keys.state is None:
            return "202" if response.status == 202 else ""
        found = self._fields.token("state", decoded.found)
        if found is None:
            raise BadPage(
                f"the status of the job is not at {self._keys.state!r} "
                "(http.job.status.field)",
                status=response.status,
                url=shown(response.url),
            )
        text = bytes(found).decode() if isinstance(found, Raw) else str(found)
        return text.lower()

    def _files(self, request: Request, decoded: Decoded) -> list[str]:
        """The URLs of what the job has made; none where it has made nothing."""
        found = decoded.found.get(self._keys.files or "")
        if isinstance(found, Raw):
            found = msgjson.decode(found)
        if found is None or found == "":
            return []
        urls = found if isinstance(found, list) else [found]
        texts = [msgjson.decode(url) if isinstance(url, Raw) else url for url in urls]
        if not all(isinstance(url, str) for url in texts):
            raise BadPage(
                f"what stands at {self._keys.files!r} is no URL and no list of them "
                "(http.job.download.field)",
                url=shown(request.url),
            )
        return [self._steps.follow(request.url, url) for url in texts]


class _Gone(Exception):
    """A job that was created before is of no use any more."""

    def __init__(self, message: str, cause: SourceError):
        super().__init__(message)
        self.cause = cause


def _behind(offset: Offset, window: WindowPager | None) -> bool:
    """Whether a position is behind all that its job has made."""
    if window is None or offset.get("done") is True:
        return offset.get("done") is True
    # Within a window something says where its walk, or its files, stand.
    return FILE not in offset and not any(name.startswith("walk.") for name in offset)


def _retry_after(response: Response, now_ms: int) -> float:
    """Seconds that an answer asks for, at most a day; 0.0: none."""
    text = response.header("retry-after") or ""
    if text.strip().isdigit():
        return min(float(text), 86_400.0)
    try:
        left = dates.parsedate_to_datetime(text).timestamp() - now_ms / 1000
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(left, 0.0), 86_400.0)
