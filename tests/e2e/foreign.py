"""
Files of other connectors, as their manuals have them, and models of the APIs they ask.

Owns the table `FILES`: a file's keys and what answers its requests.  The rows behind it
are inserted and changed by the test; `Rows.versions` is all that ever was to be read.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, NamedTuple

from tests.fakes.api import Answer, Asked

#: connector.class of each.
CASTORM = "com.github.castorm.kafka.connect.http.HttpSourceConnector"
V1 = "io.confluent.connect.http.HttpSourceConnector"
V2 = "io.confluent.connect.http.source.GenericHttpSourceConnector"

Row = dict[str, Any]


class Rows:
    """
    Rows by id with the time of their last change, on a clock of their own.

    Args:
        live: That clock is everybody's.
    """

    def __init__(self, *, live: bool = False) -> None:
        self.live = live
        self.now = (int(time.time()) - 7200) * 1000
        self.rows: dict[int, Row] = {}
        self.versions: set[tuple[int, int]] = set()
        self.lock = threading.Lock()
        self.asked: list[Asked] = []

    def put(self, *ids: int, later: int = 1500) -> None:
        """Insert rows or change them, each so many ms after the one before."""
        with self.lock:
            for number in ids:
                self.now = int(time.time() * 1000) if self.live else self.now + later
                version = self.rows.get(number, {}).get("version", 0) + 1
                row = {"id": number, "version": version, "at": self.now}
                self.rows[number] = row
                self.versions.add((number, version))

    def by_time(self) -> list[Row]:
        with self.lock:
            return sorted(
                (dict(row) for row in self.rows.values()),
                key=lambda row: (row["at"], row["id"]),
            )

    def by_id(self) -> list[Row]:
        with self.lock:
            return [dict(self.rows[n]) for n in sorted(self.rows)]


class File(NamedTuple):
    """
    A file and its API.

    Attributes:
        path: Where its API answers.
        keys: Of the file, for the base URL of the API.
        answer: Of the API.
        changes: False where the API shows what is new and no change.
        live: What is older than the present is not asked for again.
        properties: Written as lines and not as JSON.
    """

    path: str
    keys: Callable[[str], Mapping[str, str]]
    answer: Callable[[Asked, Rows], Answer]
    changes: bool = True
    live: bool = False
    properties: bool = False


def _ok(document: object, *headers: tuple[str, str]) -> Answer:
    return 200, list(headers), json.dumps(document).encode()


def _bad(why: str) -> Answer:
    return 400, [], json.dumps({"error": why}).encode()


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _iso(ms: int) -> str:
    return _moment(ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}+0000"


def _java(text: str) -> int | None:
    """Milliseconds of what Java's Instant is written as, and of nothing else."""
    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{3}|\d{6}|\d{9}))?Z", text
    )
    if found is None:
        return None
    whole = datetime.fromisoformat(f"{found.group(1)}+00:00").timestamp()
    return int(whole) * 1000 + int((found.group(2) or "000")[:3])


# -- castorm -------------------------------------------------------------------------


def _castorm(url: str, path: str, **keys: str) -> dict[str, str]:
    return {
        "connector.class": CASTORM,
        "tasks.max": "1",
        "http.request.url": f"{url}{path}",
        "http.request.headers": "Accept: application/json",
        "http.timer.interval.millis": "100",
        "http.timer.catchup.interval.millis": "50",
        **{name.replace("_", "."): value for name, value in keys.items()},
    }


def _jira_keys(url: str) -> Mapping[str, str]:
    return _castorm(
        url,
        "/rest/api/2/search",
        http_offset_initial="timestamp=2020-05-08T07:55:44Z",
        http_request_params=(
            "jql=updated>=\"${offset.timestamp?datetime.iso?string['yyyy/MM/dd HH:mm']}\""
            " ORDER BY updated ASC&maxResults=100"
        ),
        http_auth_type="Basic",
        http_auth_user="username",
        http_auth_password="password",
        http_response_list_pointer="/issues",
        http_response_record_offset_pointer="key=/id, timestamp=/fields/updated",
    )


def _jira(asked: Asked, rows: Rows) -> Answer:
    login = "Basic " + base64.b64encode(b"username:password").decode()
    if asked.headers.get("authorization") != login:
        return 401, [], b"{}"
    found = re.fullmatch(
        r'updated>="(\d{4}/\d\d/\d\d \d\d:\d\d)" ORDER BY updated ASC',
        asked.query["jql"],
    )
    if found is None:
        return _bad(asked.query["jql"])
    least = datetime.strptime(found.group(1), "%Y/%m/%d %H:%M").replace(tzinfo=UTC)
    issues = [
        {
            "id": str(row["id"]),
            "version": row["version"],
            "fields": {"updated": _iso(row["at"])},
        }
        for row in rows.by_time()
        if row["at"] >= least.timestamp() * 1000
    ]
    most = int(asked.query["maxResults"])
    return _ok({"startAt": 0, "total": len(issues), "issues": issues[:most]})


def _elastic_keys(url: str) -> Mapping[str, str]:
    return _castorm(
        url,
        "/index_name/_search",
        http_offset_initial="timestamp=2020-01-01T00:00:00Z",
        http_request_method="POST",
        http_request_headers="Content-Type: application/json",
        http_request_body=(
            '{"size": 10, "sort": [{"@timestamp": "asc"}], '
            '"search_after": [${offset.timestamp?datetime.iso?long}]}'
        ),
        http_response_list_pointer="/hits/hits",
        http_response_record_pointer="/_source",
        http_response_record_offset_pointer="key=/_id, timestamp=/sort/0",
    )


def _elastic(asked: Asked, rows: Rows) -> Answer:
    query = json.loads(asked.body)
    [after] = query["search_after"]
    if not isinstance(after, int):
        return _bad(f"search_after {after!r}")
    hits = [
        {
            "_index": "index_name",
            "_id": f"doc-{row['id']}",
            "_score": None,
            "_source": {**row, "@timestamp": _iso(row["at"])},
            "sort": [row["at"]],
        }
        for row in rows.by_time()
        if row["at"] > after
    ]
    return _ok({"hits": {"total": len(hits), "hits": hits[: query["size"]]}})


def _quick_keys(url: str) -> Mapping[str, str]:
    return _castorm(
        url,
        "/quick",
        http_offset_initial="timestamp=2020-05-08T07:55:44Z",
        http_request_headers="Accept=application/json",
        http_request_params="updatedAtFrom=${timestamp}",
        http_response_list_pointer="/items",
        http_response_record_offset_pointer="key=/id, timestamp=/updatedAt",
    )


def _since(asked: Asked, rows: Rows, text: str, **shape: Any) -> Answer:
    """All rows from a time on that has to be written as Java writes it."""
    least = _java(text)
    if least is None or asked.headers.get("accept") != "application/json":
        return _bad(text)
    write = shape.get("write", _iso)
    items = [
        {**row, "updatedAt": write(row["at"]), "fields": {"updated": write(row["at"])}}
        for row in rows.by_time()
        if row["at"] >= least
    ]
    return _ok({"items": items, "issues": items})


def _pairs_keys(url: str) -> Mapping[str, str]:
    return _castorm(
        url,
        "/pairs",
        http_request_params="updated=${offset.timestamp}&after=${offset.key}",
        http_offset_initial="key=TICKT-0001, timestamp=2020-01-01T00:00:01Z",
        http_response_list_pointer="/issues",
        http_response_record_offset_pointer="key=/id, timestamp=/fields/updated",
        http_client_read_timeout_millis="0",
    )


def _millis_keys(url: str) -> Mapping[str, str]:
    """A number in the records, and their template has an instant all the same."""
    return _castorm(
        url,
        "/millis",
        http_request_params="from=${offset.timestamp}",
        http_offset_initial="timestamp=2020-01-01T00:00:01Z",
        http_response_list_pointer="/items",
        http_response_record_offset_pointer=(
            "key=/id, timestamp=/updatedAt, endpoint=/kind"
        ),
    )


def _pattern_keys(url: str) -> Mapping[str, str]:
    """Times that do not sort as texts, newest first."""
    return _castorm(
        url,
        "/pattern",
        http_request_params="from=${offset['timestamp']}",
        http_offset_initial="timestamp=2020-01-01T00:00:01Z",
        http_response_list_pointer="/items",
        http_response_list_order_direction="DESC",
        http_response_record_offset_pointer="key=/id, timestamp=/updatedAt",
        http_response_record_timestamp_parser=(
            "com.github.castorm.kafka.connect.http.response.timestamp."
            "DateTimeFormatterTimestampParser"
        ),
        http_response_record_timestamp_parser_pattern="dd.MM.yyyy HH:mm:ss",
        http_response_record_timestamp_parser_zone="Europe/Berlin",
    )


def _pattern(asked: Asked, rows: Rows) -> Answer:
    from zoneinfo import ZoneInfo

    def write(ms: int) -> str:
        return (
            _moment(ms)
            .astimezone(ZoneInfo("Europe/Berlin"))
            .strftime("%d.%m.%Y %H:%M:%S")
        )

    least = _java(asked.query["from"])
    if least is None:
        return _bad(asked.query["from"])
    items = [
        {**row, "updatedAt": write(row["at"])}
        for row in reversed(rows.by_time())
        if row["at"] // 1000 * 1000 >= least
    ]
    return _ok({"items": items})


def _header_keys(url: str) -> Mapping[str, str]:
    return _castorm(
        url,
        "/header",
        http_request_headers=(
            "Accept: application/json, If-Modified-Since: "
            "${offset.timestamp?datetime.iso?string['EEE, dd MMM yyyy HH:mm:ss']} GMT, "
            "X-List: a\\, b"
        ),
        http_offset_initial="timestamp=2020-01-01T00:00:01Z",
        http_response_list_pointer="/items",
        http_response_record_offset_pointer="key=/id, timestamp=/updatedAt",
    )


def _header(asked: Asked, rows: Rows) -> Answer:
    if asked.headers.get("x-list") != "a, b":
        return _bad("X-List")
    least = parsedate_to_datetime(asked.headers["if-modified-since"]).timestamp()
    items = [
        {**row, "updatedAt": row["at"]}
        for row in rows.by_time()
        if row["at"] // 1000 >= least
    ]
    return _ok({"items": items})


def _serial_keys(url: str) -> Mapping[str, str]:
    return _castorm(
        url,
        "/serial",
        http_request_params="after=${offset.id}",
        http_offset_initial="id=0",
        http_response_list_pointer="/items",
        http_response_record_offset_pointer="key=/id, timestamp=/at, id=/id",
    )


def _serial(asked: Asked, rows: Rows) -> Answer:
    found = [row for row in rows.by_id() if row["id"] > int(asked.query["after"])]
    return _ok({"items": found[:5]})


def _whole_keys(url: str) -> Mapping[str, str]:
    """No request names the offset: everything comes each time."""
    return _castorm(
        url,
        "/whole",
        http_response_list_pointer="/items",
        http_response_record_offset_pointer="key=/id, timestamp=/at",
    )


# -- Confluent -----------------------------------------------------------------------


def _v1(url: str, path: str, **keys: str) -> dict[str, str]:
    return {
        "connector.class": V1,
        "tasks.max": "1",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "confluent.topic.bootstrap.servers": "broker:9092",
        "confluent.topic.replication.factor": "1",
        "url": f"{url}{path}",
        "request.interval.ms": "100",
        **{name.replace("_", "."): value for name, value in keys.items()},
    }


def _v2(url: str, path: str, **keys: str) -> dict[str, str]:
    return {
        "connector.class": V2,
        "tasks.max": "1",
        "connection.disallow.local.ips": "false",
        "connection.disallow.private.ips": "false",
        "http.api.base.url": url,
        "apis.num": "1",
        "api1.http.api.path": path,
        "api1.http.request.headers": "Content-Type: application/json",
        "api1.test.api": "false",
        "api1.request.interval.ms": "100",
        **{f"api1.{name.replace('_', '.')}": value for name, value in keys.items()},
        "reporter.bootstrap.servers": "broker:9092",
        "reporter.error.topic.name": "error-responses",
        "reporter.error.topic.replication.factor": "1",
        "reporter.result.topic.name": "success-responses",
        "reporter.result.topic.value.format": "string",
    }


INCREMENTING = {
    "http_offset_mode": "SIMPLE_INCREMENTING",
    "http_request_parameters": "start=${offset}&limit=3",
    "http_initial_offset": "0",
    "http_response_data_json_pointer": "/results",
}


def _spaces(asked: Asked, rows: Rows) -> Answer:
    start, limit = int(asked.query["start"]), int(asked.query["limit"])
    return _ok({"results": rows.by_id()[start : start + limit]})


CHAINING = {
    "http_offset_mode": "CHAINING",
    "http_request_method": "POST",
    "http_request_body": (
        '{"size": 10, "sort": [{"@time": "asc"}], "search_after": [${offset}]}'
    ),
    "http_initial_offset": "1647948000000",
    "http_response_data_json_pointer": "/hits/hits",
    "http_offset_json_pointer": "/sort/0",
}

CURSOR = {
    "http_offset_mode": "CURSOR_PAGINATION",
    "http_request_method": "GET",
    "http_request_parameters": "pageToken=${offset}",
    "http_response_data_json_pointer": "/items",
    "http_next_page_json_pointer": "/nextPageToken",
}


def _objects(asked: Asked, rows: Rows) -> Answer:
    """As a bucket's: by name, five on a page, the last one without a token."""
    token = asked.query.get("pageToken", "")
    after = int(base64.b64decode(token)) if token else -1
    found = [row for row in rows.by_id() if row["id"] > after]
    told: dict[str, Any] = {"kind": "storage#objects", "items": found[:5]}
    if len(found) > 5:
        told["nextPageToken"] = base64.b64encode(b"%d" % found[4]["id"]).decode()
    return _ok(told)


ABSOLUTE = {
    "http_offset_mode": "CURSOR_PAGINATION",
    "is_next_page_token_absolute_url": "true",
    "http_response_data_json_pointer": "/items",
    "http_next_page_json_pointer": "/next",
}


def _absolute(asked: Asked, rows: Rows) -> Answer:
    after = int(asked.query.get("after", "-1"))
    found = [row for row in rows.by_id() if row["id"] > after]
    told: dict[str, Any] = {"items": found[:5]}
    if len(found) > 5:
        host = asked.headers["host"]
        told["next"] = f"http://{host}{asked.path}?after={found[4]['id']}"
    return _ok(told)


SNAPSHOT = {
    "http_offset_mode": "SNAPSHOT_PAGINATION",
    "http_response_data_json_pointer": "/items",
    "http_offset_json_pointer": "/at",
}


def _all(asked: Asked, rows: Rows) -> Answer:
    return _ok({"items": rows.by_id()})


ODATA = {
    "http_offset_mode": "ODATA_PAGINATION",
    "http_response_data_json_pointer": "/value",
    "odata_nextlink_field": "@odata.nextLink",
    "odata_deltalink_field": "@odata.deltaLink",
    "odata_token_mode": "FULL_URL",
}


def _accounts(asked: Asked, rows: Rows) -> Answer:
    """What has changed behind a time, four on a page, with a delta link at its end."""
    after = int(asked.query.get("$deltatoken", "0"))
    skip = int(asked.query.get("$skiptoken", "0"))
    found = [row for row in rows.by_time() if row["at"] > after]
    home = f"http://{asked.headers['host']}{asked.path}?$deltatoken="
    told: dict[str, Any] = {"value": found[skip : skip + 4]}
    if len(found) > skip + 4:
        told["@odata.nextLink"] = f"{home}{after}&$skiptoken={skip + 4}"
    else:
        told["@odata.deltaLink"] = f"{home}{found[-1]['at'] if found else after}"
    return _ok(told)


def _windows(mode: str, switch: str) -> dict[str, str]:
    start = datetime.fromtimestamp(int(time.time()) - 30, UTC)
    return {
        "http_offset_mode": mode,
        switch: "true",
        "initial_start_timestamp_value": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "timestamp_format": "EPOCH_MILLIS",
        "http_timestamp_interval": "1",
        "timestamp_interval_format": "SECONDS",
        "http_timestamp_json_pointer": "/at",
        "http_response_data_json_pointer": "/items",
    }


def _cursor_windows(url: str) -> Mapping[str, str]:
    return _v2(
        url,
        "/windows/cursor",
        **_windows("CURSOR_PAGINATION", "enable_cursor_pagination_with_timestamp_mode"),
        http_next_page_json_pointer="/next",
        http_request_parameters=(
            "from=${start_timestamp}&to=${end_timestamp}&cursor=${offset}"
        ),
    )


def _chaining_windows(url: str) -> Mapping[str, str]:
    return _v2(
        url,
        "/windows/chaining",
        **_windows("CHAINING", "chaining_with_timestamp_mode"),
        http_offset_json_pointer="/id",
        http_initial_offset="0",
        http_request_parameters=(
            "from=${window.start}&to=${window.end}&after=${offset}&limit=2"
        ),
    )


def _slices(asked: Asked, rows: Rows) -> Answer:
    """What lies from a time on and before another, three on a page, by cursor or id."""
    query = asked.query
    low, high = int(query["from"]), int(query["to"])
    after = int(query.get("cursor", "") or query.get("after", "") or -1)
    size = int(query.get("limit", "3"))
    found = [r for r in rows.by_id() if low <= r["at"] < high and r["id"] > after]
    told: dict[str, Any] = {"items": found[:size]}
    if len(found) > size and "after" not in query:
        told["next"] = str(found[size - 1]["id"])
    return _ok(told)


FILES: dict[str, File] = {
    "castorm-jira": File("/rest/api/2/search", _jira_keys, _jira),
    "castorm-elasticsearch": File("/index_name/_search", _elastic_keys, _elastic),
    "castorm-quickstart": File(
        "/quick",
        _quick_keys,
        lambda asked, rows: _since(asked, rows, asked.query["updatedAtFrom"]),
        properties=True,
    ),
    "castorm-pairs": File(
        "/pairs",
        _pairs_keys,
        lambda asked, rows: _since(asked, rows, asked.query["updated"]),
    ),
    "castorm-millis": File(
        "/millis",
        _millis_keys,
        lambda asked, rows: _since(asked, rows, asked.query["from"], write=int),
    ),
    "castorm-pattern": File("/pattern", _pattern_keys, _pattern),
    "castorm-header": File("/header", _header_keys, _header),
    "castorm-serial": File("/serial", _serial_keys, _serial, changes=False),
    "castorm-whole": File("/whole", _whole_keys, _all),
    "v1-incrementing": File(
        "/wiki/rest/api/space",
        lambda url: _v1(url, "/wiki/rest/api/space", **INCREMENTING),
        _spaces,
        changes=False,
    ),
    "v1-chaining": File(
        "/test-index/_search",
        lambda url: _v1(url, "/test-index/_search", **CHAINING),
        _elastic,
    ),
    "v1-cursor": File(
        "/storage/v1/b/test-bucket/o",
        lambda url: _v1(url, "/storage/v1/b/test-bucket/o", **CURSOR),
        _objects,
        changes=False,
    ),
    "v1-snapshot": File(
        "/snapshot", lambda url: _v1(url, "/snapshot", **SNAPSHOT), _all
    ),
    "v2-incrementing": File(
        "/v2/space",
        lambda url: _v2(url, "/v2/space", **INCREMENTING),
        _spaces,
        changes=False,
    ),
    "v2-chaining": File(
        "/v2/_search", lambda url: _v2(url, "/v2/_search", **CHAINING), _elastic
    ),
    "v2-cursor": File(
        "/v2/o", lambda url: _v2(url, "/v2/o", **CURSOR), _objects, changes=False
    ),
    "v2-absolute": File(
        "/v2/next",
        lambda url: _v2(url, "/v2/next", **ABSOLUTE),
        _absolute,
        changes=False,
    ),
    "v2-snapshot": File(
        "/v2/snapshot", lambda url: _v2(url, "/v2/snapshot", **SNAPSHOT), _all
    ),
    "v2-odata": File(
        "/v2/accounts", lambda url: _v2(url, "/v2/accounts", **ODATA), _accounts
    ),
    "v2-cursor-windows": File(
        "/windows/cursor", _cursor_windows, _slices, changes=False, live=True
    ),
    "v2-chaining-windows": File(
        "/windows/chaining", _chaining_windows, _slices, changes=False, live=True
    ),
}

#: Where a file's topic stands.
TOPIC_KEYS = {CASTORM: "kafka.topic", V1: "topic.name.pattern", V2: "api1.topics"}


def written(name: str, url: str) -> str:
    """The text of a file, its topic named as it is."""
    file = FILES[name]
    keys = dict(file.keys(url))
    keys[TOPIC_KEYS[keys["connector.class"]]] = name
    if file.properties:
        lines = [f"name={name}", *(f"{key}={value}" for key, value in keys.items())]
        return "\n".join(lines) + "\n"
    return json.dumps({"name": name, "config": keys}, indent=2)


def dated(answer: Answer) -> Answer:
    """An answer with the server's clock, which is the present."""
    status, headers, body = answer
    date = format_datetime(datetime.now(UTC).replace(microsecond=0), usegmt=True)
    return status, [*headers, ("Date", date)], body
