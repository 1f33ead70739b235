"""
Tree: where each child stands, and its way into Kafka.

Owns an outlet for each child that is under way, so that every parent value has
a position of its own, and the promise that nothing of a tree is left open when
its shard commits.  Polls nothing: which child is asked for is the source's.  What
happens to each page is `task.path`.

Path: ``source.children`` hands over children's pages -> here -> ``task.path``
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

from msgspec import Struct

from engine.clock import SYSTEM
from engine.records import Offset, Page, Parcel, Shard
from engine.seams import Outlet
from engine.sink.outlet import AtLeastOnce
from engine.sink.seams import Failure
from engine.source.paging.position import UNDER, whole
from engine.task.below import RemovedPositions, lag_of, same_place, set_apart
from engine.task.forgetting import Removal, WatchedDelivery, remove_all
from engine.task.memory import (
    NO_PAGE,
    PART,
    Forgetful,
    Memory,
    Outlets,
    Remembering,
    produces,
)
from engine.task.path import PagePath
from engine.task.pulse import Pulse

log = logging.getLogger("task")

#: Children whose outlets may be open at once.
MOST_OPEN = 256

#: Children of one root whose pages are remembered.
MOST_REMEMBERED = 10_000


#: Children that are forgotten behind one poll; the others behind the next.
MOST_FORGOTTEN = 1000

#: Pages of a child's poll that may wait for the first one that brings something.
HELD = 10


class WatchedOutlets(Outlets, WatchedDelivery, Protocol):
    """What is needed of `sink.delivery.Delivery` by who waits for children."""


class Branch(Struct, frozen=True):
    """
    One api below a root.

    Attributes:
        path: What its pages go through.
        open: Makes the outlet of a source partition.
        memory: Makes the memory of one, or None: it has none.
        timed: The same outlet as it is to be used.
        forget: Removes what is saved of a source partition.
        save: Saves a position of one, whether or not the api keeps any; blocks until
            that is done.
        keeps: Where a child stands is saved (`api.chaining.state`).
        under: Which values name its children: `names_of`.
        polls: Finished polls of the root after which a child is forgotten that was
            not asked for in them; 0: never.
    """

    path: PagePath
    open: Callable[[Mapping[str, str]], AtLeastOnce]
    memory: Callable[[Mapping[str, str]], Remembering | None]
    timed: Callable[[AtLeastOnce], Outlet]
    forget: Callable[[Mapping[str, str], Callable[[Failure], None]], None]
    save: Callable[[Mapping[str, str], Offset], None] = lambda partition, offset: None
    keeps: bool = True
    under: str = ""
    polls: int = 0

    @property
    def shard(self) -> Shard:
        """The api, with the entity of its root."""
        return self.path.shard

    def partition(self, parent: str) -> dict[str, str]:
        """The source partition of a child."""
        return {**self.shard.partition, "parent": parent}


class ChildPlace:
    """
    One child, while a page of it is on its way; a `task.path.PagePlace`.

    Args:
        open: Its outlet; opened where no page of it has come since the last commit.
    """

    __slots__ = ("_open", "memory", "offset")

    def __init__(
        self, offset: Offset | None, memory: Memory, open: Callable[[], Outlet]
    ):
        self.offset = offset
        self.memory = memory
        self._open = open

    @property
    def outlet(self) -> Outlet:
        """As `PagePlace`."""
        return self._open()


class SparseStateOutlet:
    """
    The outlet of a child that leaves out what is not worth a state.

    Args:
        branches: Say what that is.
        open: The outlet itself; opened when something goes through it.

    Attributes:
        written: Something has gone through.
    """

    __slots__ = ("_branch", "_branches", "_open", "_parent", "written")

    def __init__(
        self,
        branches: Branches,
        branch: Branch,
        parent: str,
        open: Callable[[], Outlet],
    ):
        self._branches, self._branch, self._parent = branches, branch, parent
        self._open = open
        self.written = False

    def begin(self) -> None:
        """As `seams.Outlet`: it is begun when it is opened."""

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        """As `seams.Outlet`."""
        if self._branches.brings_nothing(self._branch, self._parent, parcel, offset):
            now = SYSTEM.monotonic()
            for tell in parcel.delivered:
                tell(now)
            if parcel.acknowledged is not None:
                parcel.acknowledged()
            return
        branch, parent = self._branch, self._parent
        if branch.under:
            offset = {**offset, UNDER: branch.under}
        if not branch.keeps and parcel.page is NO_PAGE:
            # What was saved while positions were kept vouches for nothing any longer.
            branch.save(branch.partition(parent), offset)
            self._branches.saved(branch, parent, offset)
            return
        self.written = True
        self._open().hand_over(parcel, offset)

    def commit(self) -> None:
        """As `seams.Outlet`."""
        self._open().commit()


class Branches:
    """
    All that is below one root; a `source.children.ChildDelivery`.

    Used by the thread that walks the root.

    Args:
        branches: One for each api below the root.
        offsets: What is stored, by api and parent value.
        delivery: Where the outlets are made.
        pulse: The root's: told what its loop is at.
    """

    def __init__(
        self,
        branches: Iterable[Branch],
        offsets: Mapping[tuple[str, str], Offset],
        *,
        delivery: WatchedOutlets,
        pulse: Pulse,
    ):
        self._branches = {branch.shard.api: branch for branch in branches}
        own, strangers = set_apart(
            offsets, {api: each.under for api, each in self._branches.items()}
        )
        self._offsets = own
        #: Children whose position is of the same value below another parent.
        self._strangers = strangers
        self._removed = RemovedPositions()
        self._delivery = delivery
        self._pulse = pulse
        #: Children whose poll brought nothing and left them where they stand, with
        #: its number: their positions are not written for that.
        self._passed: dict[tuple[str, str], int] = {}
        #: Children of whose poll under way nothing was handed over yet.
        self._quiet: set[tuple[str, str]] = set()
        self._open: dict[tuple[str, str], tuple[AtLeastOnce, Outlet]] = {}
        self._memories: dict[tuple[str, str], Memory] = {}
        #: Children asked for since the root's last finished poll, and the poll in
        #: which this process has last asked for one.
        self._named: set[tuple[str, str]] = set()
        #: What was written of a child before this process may lag behind its polls.
        self._asked: dict[tuple[str, str], int] = {
            (api, parent): whole(offset, "poll", 1) + lag
            for (api, parent), offset in self._offsets.items()
            if (polls := self._branches[api].polls) and (lag := lag_of(polls, parent))
        }
        #: Children whose poll is over, with where they stand, not yet committed.
        self._finished: dict[tuple[str, str], Offset] = {}

    def saved(self, branch: Branch, parent: str, offset: Offset) -> None:
        """A position of a child was saved beside its pages."""
        self._offsets[branch.shard.api, parent] = offset

    def offset(self, api: str, parent: str) -> Offset | None:
        """The newest offset handed over for a child, or the stored one."""
        # From here on the loop waits for the requests of others, of which each
        # has its deadline.
        self._pulse.idle("fetch")
        branch = self._branches[api]
        if not branch.keeps:
            return None
        if branch.polls:
            self._named.add((api, parent))
        key = api, parent
        self._quiet.add(key)
        offset = self._offsets.get(key)
        if offset is None:
            self._removed.asked(key)
        elif key in self._passed:
            offset = {**offset, "poll": self._passed[key]}
        return self._memory(api, parent).begin(offset)

    def hand_over(self, api: str, parent: str, page: Page) -> None:
        """
        Transform a page of a child and give it to Kafka.

        Raises, blocks: as `PagePath.walk`; and blocks each time too many children
            are open.
        """
        branch = self._branches[api]
        key = api, parent
        if key not in self._open and len(self._open) >= MOST_OPEN:
            self._commit()
        outlet = SparseStateOutlet(
            self, branch, parent, partial(self._outlet, branch, parent)
        )
        child = ChildPlace(
            self._offsets.get(key), self._memory(api, parent), lambda: outlet
        )
        branch.path.walk(page, child)
        if branch.keeps and child.offset is not None:
            if outlet.written:
                self._offsets[key] = child.offset
                self._passed.pop(key, None)
            if child.offset.get("done") is True:
                self._finished[key] = child.offset
        self._pulse.idle("fetch")

    def brings_nothing(
        self, branch: Branch, parent: str, parcel: Parcel, offset: Offset
    ) -> bool:
        """
        True where a page of a child has nothing for Kafka, and its position need not be
        written: who dies here asks this child once more, and thousands of children
        that are as they were cost no state in each poll.
        """
        key = branch.shard.api, parent
        page = parcel.page
        if key not in self._quiet or produces(parcel) or page is NO_PAGE:
            self._quiet.discard(key)
            return False
        if not branch.keeps:
            return True
        if offset.get("done") is not True:
            # The page that ends the poll, or one that brings something, says it, too.
            # A page in front of all others tells of a job that was created.
            return not page.truncated and 0 <= page.index < HELD
        before = self._offsets.get(key)
        if before is None or not same_place(before, offset):
            return False
        poll = whole(offset, "poll", 1)
        if poll - whole(before, "poll", 1) > lag_of(branch.polls, parent):
            return False
        self._passed[key] = poll
        return True

    def finished(self, poll: int) -> None:
        """
        A poll of the root is over and committed: forget who has been gone for long.

        A child's offset carries the number of the root's poll in which it was
        polled last.

        Raises: what the delivery failed with.
        Blocks: until it is written, for the `MOST_FORGOTTEN` at most of a poll.
        """
        self._removed.tell()
        self._asked.update(dict.fromkeys(self._named, poll))
        self._named.clear()
        self._quiet.clear()
        gone = []
        for (api, parent), offset in self._offsets.items():
            polls = self._branches[api].polls
            newest = max(whole(offset, "poll", 1), self._asked.get((api, parent), 0))
            if polls and newest <= poll - polls:
                gone.append((api, parent))
        self._asked = {
            key: asked
            for key, asked in self._asked.items()
            if asked > poll - self._branches[key[0]].polls
        }
        self._strangers = [
            key
            for key in self._strangers
            if self._branches[key[0]].polls and key not in self._offsets
        ]
        if gone := (gone + self._strangers)[:MOST_FORGOTTEN]:
            self._forget(gone)
            done = set(gone)
            self._strangers = [key for key in self._strangers if key not in done]

    def _forget(self, gone: list[tuple[str, str]]) -> None:
        self._pulse.idle("commit")
        removals: list[Removal] = []
        for api, parent in gone:
            branch = self._branches[api]
            partition = branch.partition(parent)
            removals += [
                partial(branch.forget, partition),
                partial(branch.forget, {**partition, **PART}),
            ]
        remove_all(self._delivery, removals)
        for key in gone:
            self._offsets.pop(key, None)
            self._memories.pop(key, None)
            self._asked.pop(key, None)
            self._passed.pop(key, None)
        self._removed.add(gone)
        log.info(
            "The positions of %d children were removed, whose parents have not been named "
            "for long (api.chaining.state.polls).",
            len(gone),
        )

    def settle(self) -> None:
        """
        Wait until all that was handed over is acknowledged and saved.

        Raises: what the delivery failed with.
        """
        self._commit()
        self._pulse.idle("fetch")

    def _outlet(self, branch: Branch, parent: str) -> Outlet:
        key = branch.shard.api, parent
        found = self._open.get(key)
        if found is None:
            inner = branch.open(branch.partition(parent))
            found = self._open[key] = inner, branch.timed(inner)
            found[1].begin()
        return found[1]

    def _commit(self) -> None:
        self._pulse.idle("commit")
        # All of them first: their acknowledgements then come together.
        for inner, _ in self._open.values():
            inner.flush()
        for _, outlet in self._open.values():
            outlet.commit()
        for inner, _ in self._open.values():
            self._delivery.forget(inner)
        self._open.clear()
        self._remember()

    def _remember(self) -> None:
        """What has just been committed whole need not be produced again."""
        handed = []
        for key, offset in self._finished.items():
            memory = self._memories.get(key)
            outlet = None
            if isinstance(memory, Remembering):
                outlet = memory.hand_over(offset)
            if outlet is not None:
                handed.append(outlet)
        self._finished.clear()
        for outlet in handed:
            outlet.commit()
            self._delivery.forget(outlet)

    def _memory(self, api: str, parent: str) -> Memory:
        """A child's memory; the children beyond the most have none."""
        key = api, parent
        found = self._memories.get(key)
        if found is None:
            branch = self._branches[api]
            made = None
            if branch.keeps and len(self._memories) < MOST_REMEMBERED:
                made = branch.memory(branch.partition(parent))
            found = made or Forgetful()
            found.begin(self._offsets.get(key))
            if len(self._memories) < MOST_REMEMBERED:
                self._memories[key] = found
        return found


class Rooted:
    """The outlet of a root: a commit is that of its whole tree."""

    def __init__(self, inner: Outlet, branches: Branches):
        self._inner = inner
        self._branches = branches
        self._ended: int | None = None

    def begin(self) -> None:
        """As `seams.Outlet`."""
        self._inner.begin()

    def hand_over(self, parcel: Parcel, offset: Offset) -> None:
        """As `seams.Outlet`."""
        self._ended = whole(offset, "poll", 1) if offset.get("done") is True else None
        self._inner.hand_over(parcel, offset)

    def commit(self) -> None:
        """As `seams.Outlet`."""
        self._branches.settle()
        self._inner.commit()
        if self._ended is not None:
            poll, self._ended = self._ended, None
            self._branches.finished(poll)


def without_topic(page: Page) -> Parcel:
    """
    What becomes of the page of a parent without `kafka.topic`.

    Its records are only there for its children: they count as filtered.
    """
    return Parcel(
        page=page,
        topic="",
        values=(),
        filtered=len(page.records),
        deduplicated=page.deduplicated,
    )
