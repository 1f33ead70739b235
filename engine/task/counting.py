"""
Counting: what a shard says on the board and in the log while it runs.

Owns the counts of its pages, which outlive this process, and the lines about bad
records and odd polls.

Path: `task.path` and `sink.commit` call what is made here
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from engine.clock import SYSTEM, Clock
from engine.observe.redact import redact
from engine.records import Parcel, Shard
from engine.shared.board import Slot
from engine.task.doubled import doubled

log = logging.getLogger("task")


#: Seconds between two lines about the same counter of a shard.
NOTE_EVERY = 60.0


#: Counters that tell of a poll which went otherwise than the API said.
DOUBTFUL = frozenset(
    {
        "total_mismatch_total",
        "totals_doubted_total",
        "polls_repeating_total",
        "polls_refused_total",
        "polls_unsure_total",
        "polls_restarted_total",
    }
)


#: Counters of polls after which nothing is taken for gone.
WITHHELD = frozenset({"snapshots_interrupted_total", "snapshots_withheld_total"})


#: What a counter of the source's means to who reads the log.
NOTES = {
    "total_mismatch_total": "the API promised more records than it sent",
    "page_rewritten_total": "the API has rewritten a page that was delivered before",
    "polls_truncated_total": "the poll was cut by pagination.max.pages; "
    "the next one goes on from there",
    "polls_restarted_total": "the poll began anew: the API knew no more where it was",
    "snapshots_interrupted_total": "what an interrupted poll did not reach is not taken "
    "for gone",
    "snapshot_keys_repeated_total": "a key came more than once in a poll, with other "
    "content each time: kafka.key does not tell the records apart",
    "delta_links_unused_total": "the API gives a link to what changes from now on; "
    "http.offset.mode=ODATA_PAGINATION goes on from it",
    "children_without_value_total": "a parent record has no value for its child",
    "child_polls_skipped_total": "a child's poll failed and was skipped",
    "windows_too_large_total": "a time window has more than the API gives, and is as "
    "small as it may be: http.source.window.min.seconds, a narrower filter",
    "records_out_of_order_total": "a record is out of order: http.offset.order does not "
    "hold, and the poll goes on as with NONE",
    "offset_values_missing_total": "records have no value at http.offset.json.pointer: "
    "they are produced, and move no bookmark",
    "offset_ties_forgotten_total": "more records stand at or behind the bookmark than can "
    "be kept apart; some are produced again by the next poll",
    "records_with_doubled_members_total": "records have a member twice; "
    "the last one counts",
}


class Complaints:
    """
    Says in the log which records could not be produced.

    Args:
        enabled: They are said at all.
        whole: With what was received of them (`errors.log.include.messages`).
    """

    #: Lines a second, of one task.
    MOST = 10

    def __init__(self, *, enabled: bool, whole: bool, clock: Clock = SYSTEM):
        self._enabled = enabled
        self._whole = whole
        self._clock = clock
        self._second = 0
        self._said = 0
        self._kept_back = 0

    def hear(self, shard: Shard, parcel: Parcel) -> None:
        """Say what is new, at most ten lines a second."""
        if not self._enabled:
            return
        for letter in parcel.letters:
            second = int(self._clock.monotonic())
            if second != self._second:
                self._second, self._said = second, 0
            if self._said >= self.MOST:
                self._kept_back += 1
                continue
            self._said += 1
            more = f" ({self._kept_back} more not shown)" if self._kept_back else ""
            self._kept_back = 0
            value = ""
            if self._whole:
                value = ": " + redact(letter.value[:1000].decode(errors="replace"))
            log.error(
                "%s, page %d, record %d is a bad record (%s): %s%s%s",
                shard.label,
                parcel.page.index,
                letter.index,
                letter.stage,
                letter.message,
                value,
                more,
            )


class Tally:
    """
    Counts a shard's pages on the board, where they outlive this process.

    Cells of pages are written by whoever brings the acknowledgement, under the
    delivery's lock; the others by the shard's own thread.
    """

    def __init__(
        self,
        shard: Shard,
        slot: Slot,
        complaints: Complaints,
        clock: Clock = SYSTEM,
    ):
        self.shard = shard
        self._slot = slot
        self._complaints = complaints
        self._clock = clock
        #: Polls begun, from where an earlier process was.
        self._polls = slot.get("polling")
        #: A page was delivered by this process, which has been said.
        self._begun = False
        #: Name -> when it may be said again, and how often it was not.
        self._noted: dict[str, tuple[float, int]] = {}

    def counting(self, parcel: Parcel) -> Callable[[float], None]:
        """
        What counts a parcel once it is delivered: what never arrives is no
        number.  It keeps sums and not the page; about 2 us a page.
        """
        page = parcel.page
        if parcel.letters:
            self._complaints.hear(self.shard, parcel)
        size = len(page.response.body)
        cached = page.response.origin != "network"
        if twice := doubled(page.records):
            self.note("records_with_doubled_members_total")
        sums = [
            (name, n)
            for name, n in (
                ("pages", 1),
                ("received", page.received),
                ("produced", len(parcel.values)),
                ("filtered", parcel.filtered),
                ("dead_lettered", len(parcel.letters)),
                ("deduplicated", parcel.deduplicated),
                ("doubled", twice),
                ("saved", page.saved),
                ("saved_records", page.saved_records),
                ("saved_requests", cached and not page.response.tries),
                ("saved_bytes", size if cached else 0),
                ("bytes", page.response.wire_bytes),
                ("requests", page.response.tries),
                ("polls", page.last),
                ("polls_truncated", page.truncated),
            )
            if n
        ]
        slot = self._slot
        poll = self._polls if page.last or page.truncated else -1
        wall_ms = self._clock.wall_ms
        received, produced = page.received, len(parcel.values)

        def delivered(_: float) -> None:
            slot.add_all(sums)
            # The moment at which it is delivered, whatever the answer's age: an
            # answer out of the cache is as good a poll as one from the API.
            now_ms = wall_ms()
            slot.put("last_success_ms", now_ms)
            if produced:
                slot.put("last_record_ms", now_ms)
            if not self._begun:
                self._begun = True
                log.info(
                    "%s: the first page is delivered: %d records received, %d produced.",
                    self.shard.label,
                    received,
                    produced,
                )
            if poll == slot.get("polling"):
                # Delivered to its end; the next one has not begun.
                slot.put("polling", 0)

        return delivered

    def refused(self, parcel: Parcel) -> None:
        """
        Letters of a page that was counted as produced: the broker has refused
        them since.  By whoever brings the acknowledgement.
        """
        self._complaints.hear(self.shard, parcel)
        count = len(parcel.letters)
        self._slot.add_all([("produced", -count), ("dead_lettered", count)])

    @property
    def grid(self) -> float | None:
        """
        Monotonic seconds at which the shard's grid of polls begins, or None.

        A task that is started again keeps it, a new supervisor begins anew.
        """
        return self._slot.get("grid_ns") / 1e9 or None

    @grid.setter
    def grid(self, origin: float) -> None:
        self._slot.put("grid_ns", int(origin * 1e9))

    @property
    def cut(self) -> bool:
        """
        An earlier process of this supervisor ended within a poll.

        Also where no page of it was delivered, of which nothing is stored.
        """
        return self._slot.get("polling") != 0

    def polling(self, begun: bool) -> None:
        """A poll begins, or is over without a last page."""
        self._polls += begun
        self._slot.put("polling", self._polls if begun else 0)

    def skipped(self, count: int) -> None:
        """Ticks of the interval passed while a poll ran."""
        self._slot.add("polls_skipped", count)

    def note(self, name: str) -> None:
        """
        A counter of the source's has gone up; the board's own are not its.

        What comes again and again is said once a minute, with how often.
        """
        if name == "polls_without_page_total":
            self._slot.add("polls")
            return
        if name in DOUBTFUL:
            self._slot.add("polls_doubtful")
        if name in WITHHELD:
            self._slot.add("polls_withheld")
        words = NOTES.get(name)
        if words is None:
            return
        now = self._clock.monotonic()
        due, unsaid = self._noted.get(name, (now, 0))
        if now < due:
            self._noted[name] = due, unsaid + 1
            return
        more = f" ({unsaid} times more in between)" if unsaid else ""
        log.warning("%s: %s%s", self.shard.label, words, more)
        self._noted[name] = now + NOTE_EVERY, 0

    def snapshot(self, keys: int, gone: int, withheld: int = 0) -> None:
        """
        So many keys are remembered, after so many more were found gone; so many of them were
        missing from the snapshot and are not taken for gone.
        """
        self._slot.put("snapshot_keys", keys)
        self._slot.put("withheld_keys", withheld)
        self._slot.add("tombstones", gone)

    def succeeded(self) -> None:
        """A poll has ended well, whatever it brought."""
        self._slot.put("last_success_ms", self._clock.wall_ms())

    def given_up(self, failure: Exception) -> None:
        """A poll was given up; the next tick tries again."""
        self._slot.add("errors")
        log.warning("Poll given up: %s", failure)
