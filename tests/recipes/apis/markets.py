"""Models of exchanges: trades that are counted upwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fakes.api import Answer, Asked
from tests.recipes.documented import Documented, Limit, Refused, Row, allow, path, said


class Binance(Documented):
    """Aggregate trades from an id on, that one included."""

    recipe = "binance-trades"
    # A minute's weight of 6000, four for each call.
    limit = Limit(1500, 60)
    first = 900
    later = 2300
    key = "a"

    def make(self, number: int, at: float) -> Row:
        return {
            "a": 26000 + number,
            "p": "0.01633102",
            "q": "4.70443515",
            "f": 27000 + number,
            "l": 27000 + number,
            "T": int(at * 1000),
            "m": True,
            "M": True,
        }

    def trouble(self) -> Sequence[Answer]:
        body = {"code": -1003, "msg": "Too many requests"}
        weight = ("X-MBX-USED-WEIGHT-1M", "6001")
        return [
            said(body, 429, [("Retry-After", "0"), weight]),
            said(body, 418, [("Retry-After", "0"), weight]),
        ]

    def respond(self, asked: Asked) -> Answer:
        path(asked, "/api/v3/aggTrades")
        allow(
            asked,
            "symbol fromId startTime endTime limit",
            {"code": -1104, "msg": "Not all sent parameters were read"},
        )
        query = asked.query
        if "symbol" not in query:
            raise Refused(400, {"code": -1102, "msg": "Mandatory parameter 'symbol'"})
        # More than a thousand is a thousand.
        width = min(int(query.get("limit", "500")), 1000)
        if "fromId" in query:
            start = max(int(query["fromId"]) - 26000, 0)
        else:
            start = max(len(self.rows) - width, 0)
        return said(
            self.give(self.rows[start : start + width]),
            headers=[("X-MBX-USED-WEIGHT-1M", "4")],
        )


class Kraken(Documented):
    """Trades behind a moment in nanoseconds, as rows; errors inside 200."""

    recipe = "kraken-trades"
    limit = Limit(1, 1)
    first = 900
    later = 2300

    def make(self, number: int, at: float) -> Row:
        return {
            "id": 61_000_000 + number,
            "row": [
                "30243.40000",
                "0.34507674",
                at + number / 1e4,
                "b" if number % 2 else "s",
                "m",
                "",
                61_000_000 + number,
            ],
            "at": int(at) * 1_000_000_000 + number * 100_000,
        }

    def identity(self, record: Any) -> str:
        return str(record["id"])

    def trouble(self) -> Sequence[Answer]:
        return [
            said({"error": ["EAPI:Rate limit exceeded"]}),
            said({"error": ["EService:Unavailable"]}),
            said({"error": ["EGeneral:Too many requests"]}),
        ]

    def respond(self, asked: Asked) -> Answer:
        path(asked, "/0/public/Trades")
        allow(asked, "pair since count", {"error": ["EGeneral:Invalid arguments"]}, 200)
        query = asked.query
        if query.get("pair") != "XBTUSD":
            return said({"error": ["EQuery:Unknown asset pair"]})
        width = int(query.get("count", "1000"))
        if not 1 <= width <= 1000:
            return said({"error": ["EGeneral:Invalid arguments:count"]})
        if "since" in query:
            since = int(query["since"])
            rows = [row for row in self.rows if row["at"] > since][:width]
        else:
            since = self.rows[-1]["at"] if self.rows else 0
            rows = self.rows[-width:]
        self.give(rows)
        last = str(rows[-1]["at"] if rows else since)
        found = {"XXBTZUSD": [row["row"] for row in rows], "last": last}
        return said({"error": [], "result": found})
