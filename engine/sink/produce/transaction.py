"""
Transaction: a producer's place in Kafka's transactions, as a state machine.

Owns the transactional id's producer id and epoch, which partitions the open
transaction knows, how it is ended, and what each answer of the coordinator means.
Knows no socket: `sink.produce.sender` asks it for the next question, and it is
told the answer.

Two protocols are spoken.  Version 2 (KIP-890, Produce 12 and EndTxn 5, where the
cluster's `transaction.version` is 2): a batch adds its partition by itself, and each
end answers the epoch of the next transaction, so that nothing late can land in it.
Version 1 else (KIP-98): partitions are added before their first batch.

Whatever leaves a doubt ends the producer: an end that is not answered is never asked
for again, and the next producer of the id reads what became of it.

Path: `sink.produce.producer` begins and ends -> here <- `sink.produce.sender`
Source: KIP-98, KIP-360, KIP-890.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from engine.errors import (
    Doubtful,
    Fenced,
    Misconfigured,
    NoTransactions,
    SinkError,
    Unavailable,
)
from engine.sink.codec import Message
from engine.sink.produce import messages, verdicts, wire
from engine.sink.produce.handshake import NegotiatedSession
from engine.sink.produce.identity import CoordinatorRequest
from engine.sink.produce.queue import Numbers, Partition
from engine.sink.produce.wire import BrokerAddress

#: Seconds until what a former transaction's end is still in the way of is asked
#: again: its markers are being written, which takes milliseconds.
SOON = 0.01

#: Times that a broker cuts off who asks for a transactional id, and lets him in anew,
#: until it is taken for one that knows no transactions.
CUTS = 3

#: The highest versions that are spoken in protocol 1: above them partitions add
#: themselves, or epochs move.
PRODUCE_V1 = 11
END_V1 = 4

#: The lowest that protocol 2 needs.
PRODUCE_V2 = 12
END_V2 = 5

#: Called on the sender's thread with how a transaction has ended.
Ended: TypeAlias = Callable[[SinkError | None], None]


class Phase(Enum):
    """Where the producer is."""

    #: Its id is not fenced yet.
    NEW = "new"
    #: No transaction is open.
    READY = "ready"
    #: One is open: something may have been written.
    OPEN = "open"
    #: It is over for this producer.
    OVER = "over"


class Outcome(Enum):
    """What follows from a coordinator's answer."""

    #: It is done.
    DONE = "done"
    #: Ask again, the same one.
    AGAIN = "again"
    #: A former transaction is still being ended: ask again at once.
    SOON = "soon"
    #: Ask who the coordinator is, then again.
    MOVED = "moved"
    #: Somebody newer has the transactional id, or the broker has ended the
    #: transaction for its age.
    FENCED = "fenced"
    #: Only other settings or rights mend it.
    REFUSED = "refused"
    #: Nobody knows what became of it, or it can only be given up.
    DOUBT = "doubt"


#: What is asked of a coordinator.
FIND, INIT, ADD, END = "find", "init", "add", "end"

#: Codes that mean the same to each question.
_COMMON = {
    0: Outcome.DONE,
    7: Outcome.AGAIN,  # REQUEST_TIMED_OUT
    14: Outcome.AGAIN,  # COORDINATOR_LOAD_IN_PROGRESS
    15: Outcome.MOVED,  # COORDINATOR_NOT_AVAILABLE
    16: Outcome.MOVED,  # NOT_COORDINATOR
    29: Outcome.REFUSED,  # TOPIC_AUTHORIZATION_FAILED
    31: Outcome.REFUSED,  # CLUSTER_AUTHORIZATION_FAILED
    35: Outcome.REFUSED,  # UNSUPPORTED_VERSION
    42: Outcome.REFUSED,  # INVALID_REQUEST
    47: Outcome.FENCED,  # INVALID_PRODUCER_EPOCH
    48: Outcome.DOUBT,  # INVALID_TXN_STATE
    49: Outcome.DOUBT,  # INVALID_PRODUCER_ID_MAPPING
    50: Outcome.REFUSED,  # INVALID_TRANSACTION_TIMEOUT
    51: Outcome.SOON,  # CONCURRENT_TRANSACTIONS
    53: Outcome.REFUSED,  # TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    89: Outcome.AGAIN,  # THROTTLING_QUOTA_EXCEEDED
    90: Outcome.FENCED,  # PRODUCER_FENCED
    120: Outcome.DOUBT,  # TRANSACTION_ABORTABLE
}

#: Codes that mean something else to one of them.  An end whose answer says that it
#: may have been done is a doubt, where a question before it is asked again.
_OWN = {
    FIND: {-1: Outcome.AGAIN},
    INIT: {-1: Outcome.AGAIN, 19: Outcome.AGAIN, 20: Outcome.AGAIN},
    ADD: {
        3: Outcome.AGAIN,  # UNKNOWN_TOPIC_OR_PARTITION: not known yet
        5: Outcome.AGAIN,  # LEADER_NOT_AVAILABLE
        6: Outcome.AGAIN,  # NOT_LEADER_OR_FOLLOWER
        55: Outcome.AGAIN,  # OPERATION_NOT_ATTEMPTED: another one was refused
    },
    END: {7: Outcome.DOUBT},
}


def outcome(question: str, code: int) -> Outcome:
    """
    What follows from an error code; whatever is not known is a doubt.

    Args:
        question: FIND, INIT, ADD or END.
    """
    own = _OWN[question].get(code)
    return own if own is not None else _COMMON.get(code, Outcome.DOUBT)


class Transactional:
    """
    An identity (`produce.identity.Identity`) with a transactional id.

    `begin` and `end` are for any thread under the sender's lock; all else is the
    sender's.

    Attributes:
        group: The number of the transaction whose batches may be sent; those of a
            later one wait.  0 before the first.
        phase: Where it stands.
    """

    def __init__(self, transactional_id: str, timeout_ms: int) -> None:
        """
        Args:
            timeout_ms: After which the broker ends a transaction by itself.
        """
        self.transactional_id = transactional_id.encode()
        self.group = 0
        self.phase = Phase.NEW
        self.endpoint: BrokerAddress | None = None
        #: True if the cluster's transactions are of version 2.
        self.second = False
        # While its id is not fenced: the last answer, if it was that nobody
        # coordinates transactions, and how often there was none.
        self._lacking = ""
        self._cuts = 0
        self._name = transactional_id
        self._timeout_ms = timeout_ms
        self._id = (-1, -1)
        self._added: set[tuple[str, int]] = set()
        self._wanted: dict[tuple[str, int], Partition] = {}
        self._ending: tuple[bool, Ended] | None = None

    # -- for the producer, under the sender's lock ----------------------------------

    def end(self, commit: bool, ended: Ended) -> None:
        """Have the open transaction ended; all of it is acknowledged."""
        self._ending = commit, ended

    def late(self, limit: float, away: str) -> SinkError:
        """
        Why its id is not fenced after so many seconds.

        Args:
            away: What keeps brokers away, "" for nothing.
        """
        named = f"transactional id {self._name}"
        if self._lacking and not away:
            return NoTransactions(f"{named}, {self._lacking} for {limit:.0f} s")
        if self._cuts >= CUTS:
            return NoTransactions(
                f"{named}: the broker ends each connection that asks for it ({away})"
            )
        why = away or "its coordinator does not answer"
        return Unavailable(f"initialising {named}: {why}")

    # -- as `identity.Identity` --------------------------------------------------------

    def produce_version(self, highest: int) -> int:
        """As `Identity`: above 11 a batch adds its partition by itself."""
        return highest if self.second else min(highest, PRODUCE_V1)

    def question(self) -> CoordinatorRequest | None:
        """As `Identity`."""
        ending = self._ending
        if self.phase is Phase.OVER:
            return None
        if ending is not None and self.phase is Phase.READY:
            # Nothing was sent: there is nothing to end.
            self._ending = None
            ending[1](None)
            return None
        if self.phase is Phase.READY and not self._wanted:
            return None
        if self.phase is Phase.OPEN and ending is None and not self._wanted:
            return None
        if self.endpoint is None:
            return CoordinatorRequest(
                lambda session: messages.find_coordinator(self._name, session.versions),
                self._found,
                self._passes,
            )
        if self.phase is Phase.NEW:
            return CoordinatorRequest(
                self._init, self._initialised, self._passes, self.endpoint
            )
        if self._wanted:
            asked = dict(self._wanted)
            return CoordinatorRequest(
                lambda session: messages.add_partitions(
                    self._name, *self._id, sorted(asked), session.versions
                ),
                lambda answer: self._joined(asked, answer),
                self._lost,
                self.endpoint,
            )
        assert ending is not None
        commit, ended = ending
        return CoordinatorRequest(
            lambda session: messages.end_txn(
                self._name,
                *self._id,
                commit,
                session.versions,
                END_V2 if self.second else END_V1,
            ),
            lambda answer: self._ended(ended, answer),
            lambda why: self._end_lost(ended, why),
            self.endpoint,
        )

    def join(self, partition: Partition) -> bool:
        """
        As `Identity`: the open transaction is to know of a partition.

        A batch of it may be sent once it does.
        """
        if self.phase is not Phase.READY and self.phase is not Phase.OPEN:
            partition.reason = f"transactional id {self._name} is not initialised yet"
            return False
        place = partition.topic, partition.index
        if self.second:
            # Its own batch adds it, and each transaction has an epoch of its own.
            partition.numbers = Numbers(*self._id, 0, transactional=True)
            partition.unproved = True
        elif place not in self._added:
            partition.reason = "the transaction does not know of it yet"
            self._wanted[place] = partition
            return False
        elif partition.numbers is None:
            partition.numbers = Numbers(*self._id, 0, transactional=True)
        self.phase = Phase.OPEN
        partition.joined = self.group
        partition.reason = ""
        return True

    def admit(self, partition: Partition) -> bool:
        """As `Identity`; numbers are given by `join`."""
        return partition.numbers is not None

    def exhausted(self, partition: Partition) -> SinkError | None:
        """As `Identity`: no epoch is begun within a transaction."""
        return Doubtful(
            f"transaction of {self._name}: a batch was refused behind one whose end "
            "is not known"
        )

    def moved(self) -> None:
        """As `Identity`: the coordinator is out of reach, or another one."""
        self.endpoint = None

    # -- what is answered ------------------------------------------------------------

    def _found(self, answer: Any) -> tuple[SinkError | None, float | None]:
        told = messages.coordinator(answer)
        found = outcome(FIND, told.code)
        if found is Outcome.DONE:
            self.endpoint = told.endpoint
            return None, 0.0
        return self._judged(found, told.code, "looking for its coordinator")

    def _init(self, session: NegotiatedSession) -> Message:
        """The question by which the id is fenced."""
        versions = session.versions
        self.second = (
            session.features.get("transaction.version", 0) >= 2
            and versions.get(wire.PRODUCE, (0, -1))[1] >= PRODUCE_V2
            and versions.get(messages.END_TXN, (0, -1))[1] >= END_V2
        )
        return messages.init_producer_id(versions, self._name, self._timeout_ms)

    def _initialised(self, answer: Any) -> tuple[SinkError | None, float | None]:
        found = outcome(INIT, answer.error_code)
        if found is Outcome.DONE:
            self._id = answer.producer_id, answer.producer_epoch
            self.phase = Phase.READY
            return None, 0.0
        return self._judged(found, answer.error_code, "initialising it")

    def _joined(
        self, asked: dict[tuple[str, int], Partition], answer: Any
    ) -> tuple[SinkError | None, float | None]:
        codes = messages.added(answer)
        # What was refused says more than what was not attempted for it.
        left: Outcome | None = None
        worst, named = 0, ""
        for place in asked:
            code = codes.get(place, -1)
            found = outcome(ADD, code)
            if found is Outcome.DONE:
                self._added.add(place)
                self._wanted.pop(place, None)
                # The coordinator has begun the transaction.
                self.phase = Phase.OPEN
            elif left is None or code != verdicts.NOT_ATTEMPTED:
                left, worst, named = found, code, "{}-{}".format(*place)
        if left is None:
            return None, 0.0
        return self._judged(left, worst, f"adding {named} to its transaction")

    def _ended(
        self, ended: Ended, answer: Any
    ) -> tuple[SinkError | None, float | None]:
        found = outcome(END, answer.error_code)
        if found is not Outcome.DONE:
            return self._judged(found, answer.error_code, "ending its transaction")
        if self.second:
            self._id = answer.producer_id, answer.producer_epoch
        self._added.clear()
        self._ending = None
        self.phase = Phase.READY
        ended(None)
        return None, 0.0

    def _judged(
        self, found: Outcome, code: int, doing: str
    ) -> tuple[SinkError | None, float | None]:
        """
        What to do about an answer that is no success.

        Returns: the failure if it is for good, and seconds until the question is
        asked again, None for the usual pause.
        """
        self._lacking = ""
        if found is Outcome.MOVED:
            self.moved()
            if code == verdicts.NO_COORDINATOR:
                self._lacking = f"{doing}: {verdicts.name(code)}"
        if found in (Outcome.AGAIN, Outcome.MOVED):
            return None, None
        if found is Outcome.SOON:
            return None, SOON
        said = f"transactional id {self._name}, {doing}: {verdicts.name(code)}"
        if found is Outcome.FENCED:
            why: SinkError = Fenced(
                f"{said}: somebody else has taken it over, or it was open for longer than "
                "producer.transaction.timeout.ms"
            )
        elif found is Outcome.REFUSED:
            why = Misconfigured(f"{said}: {verdicts.described(code)}")
        else:
            why = Doubtful(f"{said}: what became of the transaction is read anew")
        return self._over(why), None

    def _passes(self, _: Exception) -> SinkError | None:
        """Nothing hangs on an answer: the question is asked again."""
        self.moved()
        self._lacking = ""
        self._cuts += 1
        return None

    def _lost(self, why: Exception) -> SinkError | None:
        # It may land late, in a transaction that it was not meant for.
        return self._over(
            Doubtful(
                f"transactional id {self._name}: no answer of its coordinator: {why}"
            )
        )

    def _end_lost(self, ended: Ended, why: Exception) -> SinkError | None:
        return self._over(
            Doubtful(
                f"transactional id {self._name}: whether its transaction has ended is "
                f"not known: {why}"
            )
        )

    def failed(self, why: SinkError) -> None:
        """As `Identity`: nothing is sent any more; whoever waits is told."""
        self._over(why)

    def _over(self, why: SinkError) -> SinkError:
        self.phase = Phase.OVER
        ending, self._ending = self._ending, None
        if ending is not None:
            ending[1](why)
        return why
