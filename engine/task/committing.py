"""
Committing: how a task's transactions end becomes meters.

Owns the counting of them; the positions in them are counted by who saves them.

Path: ``task.metering`` makes it -> ``observe.meters``
"""

from __future__ import annotations

from engine.observe import names
from engine.observe.meters import Meter
from engine.sink.group import End


class TransactionCounter:
    """
    Counts a task's transactions; called on the thread that ends them.

    The smallest and the largest are those of the life of the process.
    """

    def __init__(self, meters: Meter) -> None:
        self._meters = meters
        self._took = meters.timer(names.TRANSACTION_SECONDS)
        self._least: int | None = None
        self._most = 0

    def __call__(self, end: End, records: int, seconds: float) -> None:
        """As `sink.transactions.Transactions.told`."""
        meters = self._meters
        meters.count(names.TRANSACTIONS, (end.value,))
        if end is not End.COMMITTED:
            return
        self._took(seconds)
        meters.count(names.TRANSACTION_RECORDS, (), records)
        if self._least is None or records < self._least:
            self._least = records
            meters.state(names.TRANSACTION_RECORDS_MIN, (), records)
        if records >= self._most:
            self._most = records
            meters.state(names.TRANSACTION_RECORDS_MAX, (), records)
