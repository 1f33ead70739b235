"""Models of open data: weather in columns, papers in Atom, filings of companies."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from tests.fakes.api import Answer, Asked
from tests.recipes.documented import (
    Documented,
    Limit,
    Refused,
    Row,
    allow,
    epoch,
    iso,
    path,
    said,
    size,
    variables,
)


class OpenMeteo(Documented):
    """A forecast: an object of columns, made anew each hour."""

    recipe = "open-meteo"
    limit = Limit(600, 60)
    held = 1
    step = 3600.0
    ties = 1
    key = "time"
    version = "temperature_2m"
    variables = ("temperature_2m", "precipitation", "wind_speed_10m")

    def make(self, number: int, at: float) -> Row:
        return {
            "time": iso(at, zone="")[:16],
            "temperature_2m": 11.5 + number / 10,
            "precipitation": 0.0,
            "wind_speed_10m": 3.25,
        }

    def alter(self, row: Row, at: float) -> bool:
        row["temperature_2m"] = round(row["temperature_2m"] - 20, 2)
        return True

    def trouble(self) -> Sequence[Answer]:
        text = "Minutely API request limit exceeded. Please try again in one minute."
        return [said({"error": True, "reason": text}, 429)]

    def respond(self, asked: Asked) -> Answer:
        path(asked, "/v1/forecast")
        allow(
            asked,
            "latitude longitude hourly timezone forecast_days past_days",
            {"error": True, "reason": "Unknown parameter"},
        )
        hourly = asked.query["hourly"].split(",")
        if not set(hourly) <= set(self.variables):
            reason = "Cannot initialize Variable from invalid String value"
            raise Refused(400, {"error": True, "reason": reason})
        rows = self.give(self.rows)
        return said(
            {
                "latitude": 52.52,
                "longitude": 13.419998,
                "hourly_units": {"time": "iso8601", "temperature_2m": "°C"},
                "hourly": {
                    name: [row[name] for row in rows] for name in ["time", *hourly]
                },
            }
        )


class Arxiv(Documented):
    """Papers by the day of their submission, in an Atom feed."""

    recipe = "arxiv"
    limit = Limit(1, 3)
    first = 450
    later = 500

    def make(self, number: int, at: float) -> Row:
        return {
            "id": f"http://arxiv.org/abs/2511.{number:05d}v1",
            "published": iso(at),
            "title": f"On <pages> & {number}",
        }

    def trouble(self) -> Sequence[Answer]:
        return [said("Rate exceeded.", 503, [TEXT, ("Retry-After", "0")])]

    def respond(self, asked: Asked) -> Answer:
        path(asked, "/api/query")
        allow(asked, "search_query id_list start max_results sortBy sortOrder")
        query = asked.query
        start = int(query.get("start", "0"))
        width = size(query.get("max_results"), 10, 2000)
        assert ("submittedDate", "ascending") == (query["sortBy"], query["sortOrder"])
        rows = self.give(self.rows[start : start + width])
        entries = "".join(
            f"<entry><id>{row['id']}</id><published>{row['published']}</published>"
            f"<title>{escape(row['title'])}</title>"
            "<author><name>A. Author</name></author>"
            '<category term="cs.DB" scheme="http://arxiv.org/schemas/atom"/></entry>'
            for row in rows
        )
        total = f"<opensearch:totalResults>{len(self.rows)}</opensearch:totalResults>"
        feed = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<feed xmlns="http://www.w3.org/2005/Atom" '
            'xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">'
            f"<title>ArXiv Query</title>{total}{entries}</feed>"
        )
        return said(feed, headers=[("Content-Type", "application/atom+xml")])


class Edgar(Documented):
    """What companies have filed: columns again, newest first, no state."""

    recipe = "sec-edgar"
    limit = Limit(10, 1)
    held = 2
    key = "accessionNumber"
    companies = ("0000320193", "0000789019")

    def make(self, number: int, at: float) -> Row:
        company = self.companies[number % 2]
        return {
            "accessionNumber": f"{company}-26-{number:06d}",
            "filingDate": iso(at)[:10],
            "form": "8-K",
            "company": company,
        }

    def trouble(self) -> Sequence[Answer]:
        return [said("<html>Request Rate Threshold Exceeded</html>", 429, [HTML])]

    def respond(self, asked: Asked) -> Answer:
        agent = asked.headers.get("user-agent", "")
        if "@" not in agent:
            page = "<html>Your Request Originates from an Undeclared Automated Tool"
            status, headers, body = said(page, 403, [HTML])
            return status, headers, body
        name = asked.path.removeprefix("/submissions/CIK").removesuffix(".json")
        if name not in self.companies:
            raise Refused(404, "<Error><Code>NoSuchKey</Code></Error>", [XML])
        rows = [row for row in self.rows if row["company"] == name][::-1]
        self.give(rows)
        names = ("accessionNumber", "filingDate", "form")
        recent: dict[str, Any] = {each: [row[each] for row in rows] for each in names}
        return said({"cik": name, "filings": {"recent": recent, "files": []}})


class Neo(Documented):
    """Asteroids that come near on the days asked for, by day."""

    recipe = "nasa-neo"
    environment = variables(NASA_API_KEY="nk")
    limit = Limit(1000, 3600)
    held = 1
    ties = 1

    def make(self, number: int, at: float) -> Row:
        return {"id": str(2_000_000 + number), "name": f"({number})", "sure": 0}

    def identity(self, record: Any) -> str:
        return f"{record['id']}@{record['sure']}"

    def alter(self, row: Row, at: float) -> bool:
        row["sure"] += 1
        return True

    def trouble(self) -> Sequence[Answer]:
        text = "You have exceeded your rate limit."
        error = {"code": "OVER_RATE_LIMIT", "message": text}
        return [said({"error": error}, 429, [("X-RateLimit-Remaining", "0")])]

    def respond(self, asked: Asked) -> Answer:
        if asked.query.get("api_key") != "nk":
            raise Refused(403, {"error": {"code": "API_KEY_INVALID"}})
        path(asked, "/neo/rest/v1/feed")
        allow(asked, "start_date end_date api_key detailed")
        query = asked.query
        first, last = epoch(query["start_date"]), epoch(query["end_date"])
        days = round((last - first) / 86_400)
        if not 0 <= days <= 7:
            text = "The Feed date limit is only 7 Days"
            raise Refused(
                400, {"code": 400, "http_error": "BAD_REQUEST", "error": text}
            )
        near: dict[str, list[Row]] = {}
        for number, row in enumerate(self.give(self.rows)):
            day = iso(first + number % (days + 1) * 86_400)[:10]
            near.setdefault(day, []).append(row)
        return said({"element_count": len(self.rows), "near_earth_objects": near})


class Usgs(Documented):
    """Earthquakes that were found or looked at again since a time."""

    recipe = "usgs-earthquakes"
    held = 1

    def make(self, number: int, at: float) -> Row:
        found = {"mag": 2.5, "time": int(at * 1000), "updated": int(at * 1000)}
        return {"type": "Feature", "id": f"us7000{number:04d}", "properties": found}

    def identity(self, record: Any) -> str:
        return f"{record['id']}@{record['properties']['updated']}"

    def alter(self, row: Row, at: float) -> bool:
        row["properties"] = {**row["properties"], "updated": int(at * 1000)}
        return True

    def trouble(self) -> Sequence[Answer]:
        return [said("Service Unavailable", 503, [TEXT])]

    def respond(self, asked: Asked) -> Answer:
        path(asked, "/fdsnws/event/1/query")
        allow(asked, "format updatedafter starttime minmagnitude orderby limit offset")
        query = asked.query
        if query["format"] != "geojson" or not 1 <= int(query["limit"]) <= 20_000:
            status, headers, body = said("Error 400: Bad Request", 400, [TEXT])
            return status, headers, body
        since = epoch(query.get("updatedafter", "1970-01-01T00:00:00"))
        rows = [
            row for row in self.rows if row["properties"]["updated"] >= since * 1000
        ]
        meta = {"status": 200, "count": len(rows)}
        found = {"type": "FeatureCollection", "metadata": meta}
        return said({**found, "features": self.give(rows)})


class UsgsCatalog(Usgs):
    """The same by time; too many at once are refused."""

    recipe = "usgs-catalog"
    step = 0.2
    ties = 1
    most = 5

    def settings(self) -> dict[str, object]:
        # Windows that a test can wait for.
        return {
            **super().settings(),
            "http.source.window.size.seconds": 2,
            "http.source.window.start": iso(time.time() // 2 * 2),
            "http.source.window.lag.seconds": 1,
        }

    def add(self, count: int) -> None:
        # What is over has been asked for.
        self.now = max(self.now, time.time() + 0.5)
        super().add(count)

    def alter(self, row: Row, at: float) -> bool:
        return False

    def respond(self, asked: Asked) -> Answer:
        path(asked, "/fdsnws/event/1/query")
        allow(asked, "format starttime endtime minmagnitude orderby limit offset")
        query = asked.query
        start, end = epoch(query["starttime"]) * 1000, epoch(query["endtime"]) * 1000
        rows = [row for row in self.rows if start <= row["properties"]["time"] <= end]
        if len(rows) > self.most:
            text = f"{len(rows)} matching events exceeds search limit of 20000."
            return said(f"Error 400: Bad Request\n\n{text}", 400, [TEXT])
        return said({"type": "FeatureCollection", "features": self.give(rows)})


TEXT = ("Content-Type", "text/plain")
HTML = ("Content-Type", "text/html")
XML = ("Content-Type", "application/xml")
