"""
Keys of the source: apis, requests, paging, offsets, windows, responses.

Owns their entries in the table and nothing else.

Path: here -> ``keys.TABLE``
"""

from __future__ import annotations

from engine.config import shapes
from engine.config.grammar import RECORD_NAMES, REQUEST_NAMES
from engine.config.keys.key import Computed, Key, Lookup, section
from engine.config.kinds import (
    Body,
    Bool,
    Charset,
    Choice,
    Comment,
    ConnectorClass,
    Cron,
    Csv,
    Glob,
    Header,
    Headers,
    Int,
    Json,
    Number,
    Params,
    RecordPath,
    StatusCodes,
    Template,
    Text,
    Topic,
    Url,
    WindowFormat,
    Zone,
    ms,
    seconds,
)

NAME = Text(r"[A-Za-z0-9._-]{1,128}", "1 to 128 of A-Z a-z 0-9 . _ -")
API_NAME = Text(r"[A-Za-z0-9._-]{1,64}", "1 to 64 of A-Z a-z 0-9 . _ -")
PARAMETER = Text(r"[^\s&=#?]{1,256}", "name of a query parameter")

#: `connector.class` -> the dialect in which clashing spellings are read.
DIALECTS = {
    "io.confluent.connect.http.HttpSourceConnector": "v1",
    "HttpSourceConnector": "v1",
    "HttpSource": "v1",
    "HttpSourceV2": "v2",
    "com.github.castorm.kafka.connect.http.HttpSourceConnector": "castorm",
}

_ALL_TYPES = frozenset(
    ["none", "offset", "page", "cursor", "next_url", "link_header", "keyset", "odata"]
)

#: Offset mode -> the pagination type it implies, and those it allows.
MODES: dict[str, tuple[str, frozenset[str]]] = {
    "FULL": (
        "none",
        _ALL_TYPES,
    ),
    "SIMPLE_INCREMENTING": ("offset", frozenset({"offset"})),
    "CHAINING": ("keyset", frozenset({"keyset"})),
    "CURSOR_PAGINATION": (
        "cursor",
        frozenset({"cursor", "next_url", "link_header", "odata"}),
    ),
    "INCREMENTAL": (
        "none",
        _ALL_TYPES,
    ),
    "SNAPSHOT_PAGINATION": (
        "none",
        _ALL_TYPES,
    ),
    "SNAPSHOT_DIFF": (
        "none",
        _ALL_TYPES,
    ),
    "ODATA_PAGINATION": ("odata", frozenset({"odata"})),
}


def _pagination_type(get: Lookup) -> object:
    return MODES[str(get("http.offset.mode"))][0]


def _initial_offset(get: Lookup) -> object:
    kind = get("pagination.type")
    if kind == "page":
        return str(get("pagination.page.start"))
    return "0" if kind == "offset" else None


def _expired(get: Lookup) -> object:
    return "RESTART" if get("http.offset.mode") == "FULL" else "FAIL"


def _end(get: Lookup) -> object:
    return "SHORT_PAGE" if get("http.offset.mode") == "CHAINING" else "EMPTY_PAGE"


def _idempotent(get: Lookup) -> object:
    return get("http.source.method") in ("GET", "POST")


def _keys() -> list[Key]:
    identity = section("Identity and parallelism")
    polling = section("Polling")
    request = section("Request")
    apis = section("Apis, listed partitions, parents and children")
    paging = section("Pagination")
    offsets = section("Offsets and time windows")
    response = section("Response to records")
    path = RecordPath()
    place = RecordPath(header=True)
    return [
        identity(
            "name",
            NAME,
            None,
            "C",
            "The connector's name in metrics, state, client ids and REST. A new name "
            "starts with a new state. A file without any name is one connector, "
            "called after the first file.",
            "orders",
        ),
        identity(
            "connector.class",
            ConnectorClass(DIALECTS),
            "io.confluent.connect.http.HttpSourceConnector",
            "C",
            "Which connector's file this was: it only decides how foreign spellings "
            "that clash are read, and is reported back.",
        ),
        identity(
            "tasks.max",
            Int(1, 256),
            "1",
            "C",
            "Most task processes. Every api and listed partition is a shard; pages "
            "that can be addressed are dealt over further tasks. With auto-scaling "
            "the number to start with.",
            "4",
        ),
        polling(
            "http.source.poll.interval.ms",
            ms(0, 86400000),
            "60000",
            "A",
            "From the start of one poll to the start of the next, on a fixed grid; a "
            "poll that takes longer skips ticks. 0: the next poll follows at once, "
            "or after 1 s if there was nothing. Below retry.backoff.ms, polls given up "
            "in a row are as far apart as retries.",
            "10000",
        ),
        polling(
            "http.source.poll.schedule",
            Cron(),
            None,
            "A",
            "Polls start at these times instead of by the interval; a missed one is "
            "made up for once.",
            "0 */5 * * * *",
        ),
        polling(
            "schedule.timezone",
            Zone(),
            "UTC",
            "P",
            "The zone of cron keys, of ${date:...}, and of times without an offset.",
            "Europe/Berlin",
        ),
        request(
            "http.source.url",
            Template(REQUEST_NAMES, url=True, comment=Comment.ENDS_OUTSIDE_TEMPLATE),
            None,
            "A",
            "What is asked. ${...} may stand behind the host only. A query in it "
            "comes before the parameters.",
            "https://api.example.com/v1/orders",
            required="every api",
        ),
        request(
            "http.api.base.url",
            Url(),
            None,
            "A",
            "What a relative http.source.url, warming patterns and relative next "
            "links are put behind.",
            "https://api.example.com/v1",
        ),
        request(
            "http.source.url.pattern",
            Glob(),
            None,
            "C",
            "This connector takes only the endpoints whose URL without query fits; "
            "it adds none. Several instances divide a catalog with it.",
            "https://api.example.com/[a-m]*",
        ),
        request(
            "http.source.method",
            Choice(("GET", "POST", "PUT", "PATCH", "DELETE")),
            "GET",
            "A",
            "The method. A POST body may page by ${cursor}, ${offset} or ${page}.",
        ),
        request(
            "http.source.idempotent",
            Bool(),
            Computed(_idempotent, "true for GET and POST, else false"),
            "A",
            "Whether a request whose end is unknown may be sent again. false: such a "
            "failure ends the poll.",
            "false",
        ),
        request(
            "http.source.query.params",
            Params(REQUEST_NAMES),
            None,
            "A",
            "Query parameters, order and repeats kept; what an expression gives is "
            "encoded whole, null leaves the parameter out.",
            "since=${offset}&sort=asc",
        ),
        request(
            "http.source.body",
            Body(REQUEST_NAMES),
            None,
            "A",
            "Sent with POST, PUT and PATCH; Content-Type is application/json if no "
            "header says otherwise. JSON may run over lines.",
            '{"cursor": ${cursor}, "size": ${limit}}',
        ),
        request(
            "http.source.body.null",
            Choice(("KEEP", "OMIT")),
            "KEEP",
            "A",
            "What a member of the body whose expression is null becomes. KEEP: null, "
            "or an empty text inside quotes; OMIT: the member is left out, in a form "
            "the field.",
            "OMIT",
        ),
        request(
            "http.source.headers",
            Headers(REQUEST_NAMES),
            None,
            "A",
            "Headers of every page request, separated by ';', a name and its value by "
            "the first ':'. An Accept-Encoding here replaces ours.",
            "Accept:application/json;X-Tenant:blue",
        ),
        request(
            "http.source.header.<Name>",
            Header(REQUEST_NAMES),
            None,
            "A",
            "One header, taken as it is; it wins over the list for that name.",
            "a;b:c",
        ),
        apis(
            "apis.num",
            Int(1, 1000),
            Computed(lambda get: None, "largest N of any apiN. key, else 1"),
            "C",
            "How many apis there are.",
            "2",
        ),
        apis(
            "api.name",
            API_NAME,
            Computed(lambda get: None, "apiN"),
            "A",
            "The api's name in state, metrics and logs. Renaming starts anew.",
            "orders",
        ),
        apis(
            "entity.names",
            Csv(Text(r"[^\x00-\x1f,]{1,256}", "text", comment=Comment.ENDS)),
            None,
            "A",
            "Listed partitions: one shard each with its own state, ${entityName} in "
            "URL, parameters, body, headers, topic and key.",
            "users,groups",
        ),
        apis(
            "api.chaining.parent",
            API_NAME,
            None,
            "A",
            "This api is polled once for each record of that one, by its api.name or "
            "apiN. At most 5 levels.",
            "api1",
        ),
        apis(
            "api.chaining.extract.field",
            path,
            None,
            "A",
            "Where ${parent_value} stands in the parent record; an array gives one "
            "child poll for each item.",
            "id",
        ),
        apis(
            "api.chaining.max.concurrent",
            Int(1, 64),
            "10",
            "A",
            "Child polls under way at once in the task.",
        ),
        apis(
            "api.chaining.state",
            Choice(("KEEP", "NONE")),
            "KEEP",
            "A",
            "KEEP: the position of each child is saved under its parent's value. NONE: "
            "none is, for children that come once (export jobs, scrolls); one that was "
            "cut short begins anew.",
            "NONE",
        ),
        apis(
            "api.chaining.state.polls",
            Int(0, 1000000),
            "100",
            "A",
            "Finished polls of the parent after which the position of a child is removed "
            "that its parent has not named in them; 0: never. Where both are "
            "incremental only if it is stated: there a child that is not named may "
            "still come again.",
            "20",
        ),
        paging(
            "pagination.type",
            Choice(
                (
                    "none",
                    "offset",
                    "page",
                    "cursor",
                    "next_url",
                    "link_header",
                    "keyset",
                    "odata",
                ),
                refused={
                    "custom": "there is no code to plug in; keyset and next_url cover "
                    "what it is used for"
                },
            ),
            Computed(_pagination_type, "none, or what http.offset.mode implies"),
            "A",
            "How a poll walks from page to page.",
            "cursor",
        ),
        paging(
            "pagination.cursor.field",
            place,
            None,
            "A",
            "Where the next cursor (type cursor) or URL (next_url) stands in the "
            "response. Missing, null, false or empty ends the poll.",
            "meta.next_cursor",
        ),
        paging(
            "pagination.limit.value",
            Int(1, 1000000),
            "100",
            "A",
            "Page size asked for; also ${limit}. Sent by the types offset and page, "
            "by the others if it is stated.",
            "500",
        ),
        paging(
            "pagination.max.pages",
            Int(1, 10000000),
            "1000",
            "A",
            "Most pages of one poll. At the limit the poll is unfinished: the next "
            "tick goes on from there.",
        ),
        paging(
            "pagination.concurrent.enabled",
            Bool(),
            "false",
            "A",
            "Several pages in flight where they can be addressed; chains fetch ahead "
            "of delivery. Order and state follow the pages.",
            "true",
        ),
        paging(
            "pagination.concurrent.max.threads",
            Int(1, 64),
            "4",
            "T",
            "Page requests in flight of one task.",
            "8",
        ),
        paging(
            "pagination.concurrent.queue.size",
            Int(1, 10000),
            "50",
            "T",
            "Pages fetched and not yet handed to the producer; full, no new request "
            "starts.",
        ),
        paging(
            "pagination.limit.param",
            PARAMETER,
            "limit",
            "A",
            "Name of the page size's query parameter; not appended where a template "
            "uses ${limit}.",
            "page_size",
        ),
        paging(
            "pagination.offset.param",
            PARAMETER,
            "offset",
            "A",
            "Name of the offset's query parameter; not appended where a template "
            "uses ${offset}. Stated for type keyset: leaves out records of one value, "
            "where they are more than a page.",
            "skip",
        ),
        paging(
            "pagination.page.param",
            PARAMETER,
            "page",
            "A",
            "Name of the page number's query parameter; not appended where a "
            "template uses ${page}. Stated for type keyset: pages among the records of "
            "one value, where they are more than a page.",
            "p",
        ),
        paging(
            "pagination.cursor.param",
            PARAMETER,
            "cursor",
            "A",
            "Name of the cursor's query parameter, also of keyset's value; not "
            "appended where a template uses ${cursor}.",
            "after",
        ),
        paging(
            "pagination.page.start",
            Int(),
            "1",
            "A",
            "Number of the first page.",
            "0",
        ),
        paging(
            "pagination.total.field",
            place,
            None,
            "A",
            "Where the number of all records stands, as a number, a text with "
            "separators or a Content-Range. It is a hint: it saves requests and ends a "
            "poll at a page that is not full, never at a full one.",
            "header:Content-Range",
        ),
        paging(
            "pagination.total.pages.field",
            place,
            None,
            "A",
            "Where the number of all pages stands. Until it is reached no empty page ends "
            "a poll; it is a hint like the number of records.",
            "header:X-Total-Pages",
        ),
        paging(
            "pagination.has.more.field",
            place,
            None,
            "A",
            "Where it stands whether more follows: a bool, 1 or 0, yes or no, also as "
            "text; null says nothing.",
            "has_more",
        ),
        paging(
            "pagination.has.more.inverted",
            Bool(),
            "false",
            "A",
            "pagination.has.more.field says that the page is the last one.",
            "true",
        ),
        paging(
            "pagination.stop.condition",
            Json(shapes.stop, "JSON object, a filter"),
            None,
            "A",
            "A filter over ${response.<path>}, ${header.<Name>} and ${count} (records of "
            "the page); a page for which it holds is the last one.",
            '{"field":"${response.end_of_stream}","operator":"EQUALS","value":true}',
        ),
        paging(
            "pagination.end",
            Choice(("EMPTY_PAGE", "SHORT_PAGE")),
            Computed(_end, "EMPTY_PAGE; SHORT_PAGE in http.offset.mode=CHAINING"),
            "A",
            "What ends a poll of the types offset, page and keyset where neither a total "
            "nor has_more does: an empty page, or one that is shorter than the first. "
            "SHORT_PAGE saves a request, and loses the rest where an API leaves out "
            "records of a page.",
            "SHORT_PAGE",
        ),
        paging(
            "pagination.empty.pages.max",
            Int(1, 1000),
            "1",
            "A",
            "How many empty pages in a row end a poll of the types offset and page. Where "
            "the number of pages is known, or has_more is true, none does.",
            "3",
        ),
        paging(
            "pagination.repeats",
            Choice(("END", "ALLOW")),
            "END",
            "A",
            "A page of type offset or page whose records are those of another page of "
            "the poll: it ends the poll with a warning and is not produced again, or is "
            "taken like any other.",
            "ALLOW",
        ),
        paging(
            "pagination.link.header",
            Text(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "header name"),
            "Link",
            "A",
            "The header that holds the links of type link_header (RFC 8288).",
        ),
        paging(
            "pagination.link.rel",
            Text(),
            "next",
            "A",
            "The relation that leads to the next page.",
        ),
        paging(
            "pagination.next.origin",
            Choice(("STRICT", "OWN")),
            "STRICT",
            "A",
            "Where links lead. STRICT: to our own origin or http.source.allowed.hosts, "
            "else the poll fails. OWN: their path and query are asked for at our own "
            "origin, for http:// links behind a TLS proxy and internal host names.",
            "OWN",
        ),
        paging(
            "pagination.next.base.field",
            place,
            None,
            "A",
            "Where the URL stands in the response that relative links are put behind, "
            "its path kept.",
            "_links.base",
        ),
        paging(
            "pagination.next.method",
            Choice(("GET", "SAME")),
            "GET",
            "A",
            "How a link is asked for: by GET, or by http.source.method with "
            "http.source.body.",
            "SAME",
        ),
        paging(
            "pagination.cursor.expired",
            Choice(("RESTART", "FAIL")),
            Computed(_expired, "RESTART in http.offset.mode=FULL, else FAIL"),
            "A",
            "What follows when the API no longer knows the cursor or link a poll is "
            "to go on with. RESTART: the poll begins anew, with a warning. FAIL: the "
            "api is FAILED until its offset is reset.",
            "RESTART",
        ),
        paging(
            "pagination.cursor.expired.status",
            StatusCodes(),
            "400,404,410,422",
            "A",
            "Statuses by which the API says that.",
            "404,410",
        ),
        paging(
            "odata.nextlink.field",
            path,
            "'@odata.nextLink'",
            "A",
            "Where the link to the next page of type odata stands.",
        ),
        paging(
            "odata.deltalink.field",
            path,
            "'@odata.deltaLink'",
            "A",
            "Where the link stands that asks for what has changed since.",
        ),
        offsets(
            "http.offset.mode",
            Choice(tuple(MODES)),
            "FULL",
            "A",
            "What carries over from one poll to the next.",
            "SIMPLE_INCREMENTING",
        ),
        offsets(
            "http.initial.offset",
            Template(REQUEST_NAMES),
            Computed(
                _initial_offset, "0 for type offset, the first page for page, else none"
            ),
            "A",
            "First ${offset}, used only without state. None: its parameter is left "
            "out.",
            "0",
        ),
        offsets(
            "http.offset.json.pointer",
            path,
            None,
            "A",
            "Where the offset value stands in a record as received.",
            "/updated_at",
        ),
        offsets(
            "http.offset.value.type",
            Choice(("auto", "number", "timestamp", "string")),
            "auto",
            "A",
            "How two offset values are compared.",
            "timestamp",
        ),
        offsets(
            "http.offset.order",
            Choice(("ASC", "NONE")),
            "NONE",
            "A",
            "ASC: the API sorts by the offset, so that INCREMENTAL may move its "
            "bookmark within a poll.",
            "ASC",
        ),
        offsets(
            "http.offset.lookback",
            Number(),
            "0",
            "A",
            "Taken off the bookmark when INCREMENTAL asks: seconds for times, a "
            "plain difference for numbers.",
            "300",
        ),
        offsets(
            "http.snapshot.tombstones.enabled",
            Bool(),
            "true",
            "A",
            "SNAPSHOT_DIFF writes a null value for a key that is gone.",
        ),
        offsets(
            "http.snapshot.max.keys",
            Int(1),
            "1000000",
            "A",
            "Most keys that SNAPSHOT_DIFF holds; more is an error.",
        ),
        offsets(
            "http.source.window.size.seconds",
            seconds(1),
            None,
            "A",
            "Cuts time into windows that are walked one by one, with ${window.start} "
            "and ${window.end} in the request.",
            "3600",
        ),
        offsets(
            "http.source.window.start",
            Template(REQUEST_NAMES),
            None,
            "A",
            "Where the first window begins; fixed at the first start.",
            "2024-01-01T00:00:00Z",
        ),
        offsets(
            "http.source.window.end",
            Template(REQUEST_NAMES),
            None,
            "A",
            "Where the last window ends; unset, it moves with the clock.",
            "2025-01-01T00:00:00Z",
        ),
        offsets(
            "http.source.window.lag.seconds",
            seconds(),
            "0",
            "A",
            "A window is asked for once it ended this long ago.",
            "60",
        ),
        offsets(
            "http.source.window.overlap.seconds",
            seconds(),
            "0",
            "A",
            "By how much a window begins earlier; repeats are dropped.",
            "30",
        ),
        offsets(
            "http.source.window.format",
            WindowFormat(),
            "ISO8601",
            "A",
            "How the bounds of a window are written.",
            "EPOCH_MILLIS",
        ),
        response(
            "http.response.format",
            Choice(("json", "ndjson", "csv", "text")),
            "json",
            "A",
            "How a body is read. csv: the first line names the fields; text: the "
            "whole body is one record.",
            "ndjson",
        ),
        response(
            "http.response.data.json.pointer",
            path,
            "",
            "A",
            "Where the records are: an array gives its items, an object one record, "
            "null none. Unset: the whole document.",
            "data.items",
        ),
        response(
            "http.response.data.optional",
            Bool(),
            "false",
            "A",
            "A response without that place is an empty page instead of a bad one.",
            "true",
        ),
        response(
            "http.response.status.process",
            StatusCodes(),
            "200-203,207",
            "A",
            "Statuses whose body is a page.",
            "200,206",
        ),
        response(
            "http.response.status.empty",
            StatusCodes(),
            "204,205",
            "A",
            "Statuses that mean an empty page.",
            "204,404",
        ),
        response(
            "http.response.empty.body",
            Choice(("ERROR", "EMPTY")),
            "ERROR",
            "A",
            "A usable status with nothing in its body (no bytes, blanks, a JSON null). "
            "ERROR: a bad page; EMPTY: an empty page.",
            "EMPTY",
        ),
        response(
            "http.response.charset",
            Charset(),
            None,
            "A",
            "How the body's bytes are read, whatever its label says. Unset: UTF-8 "
            "where it is that, else UTF-16 or UTF-32 by its first bytes, else what "
            "its Content-Type says; a label that nobody knows is passed over.",
            "windows-1252",
        ),
        response(
            "http.response.error.rules",
            Json(shapes.error_rules, "JSON array of error rules"),
            None,
            "A",
            "Errors inside answers, before what a status means by itself; the first "
            "rule that fits decides. A rule has a status (code, range, list), a "
            "header or a field (path in the body), a test of that header or field "
            "(equals: a value or a list of them; matches: a regular expression on "
            "the whole text; exists: neither missing nor null nor empty), and an "
            "action: RETRY, RATE_LIMITED (its host is paused as after a 429), "
            "REFRESH_TOKEN, EMPTY (an empty page), RESTART (the poll from its "
            "beginning), FAIL.",
            '[{"field": "ok", "equals": false, "action": "FAIL"}]',
        ),
        response(
            "http.response.error.message.field",
            path,
            None,
            "A",
            "Where the API says in words what is wrong. Unset, or nothing there: the "
            "places where APIs usually do (error.message, errors[].detail, detail, "
            "error_description and the like).",
            "error.message",
        ),
        response(
            "http.response.graphql.partial",
            Choice(("ERROR", "ALLOW")),
            "ERROR",
            "A",
            "GraphQL's errors beside its data. ERROR: an error with their messages; "
            "ALLOW: the data is kept. Without data they are an error in any case.",
            "ALLOW",
        ),
        response(
            "http.response.bad.page.patience.ms",
            ms(),
            "900000",
            "A",
            "How long polls that meet a bad page (a maintenance page, a changed "
            "shape) are given up and tried again before the api's shard is FAILED; "
            "0: at once. run --once ends with the first poll.",
            "60000",
        ),
        response(
            "kafka.topic",
            Topic(RECORD_NAMES),
            None,
            "A",
            "The topic of a record.",
            "orders",
            required="every api without children",
        ),
        response(
            "kafka.key",
            Template(RECORD_NAMES),
            None,
            "A",
            "The key of a record; a lone expression keeps its type for "
            "key.converter. Unset or null: no key.",
            "${record.id}",
        ),
        response(
            "kafka.timestamp",
            Template(RECORD_NAMES),
            Computed(lambda get: None, "time of receipt"),
            "A",
            "The time of a record, by the rules of type TIMESTAMP.",
            "${record.updated_at}",
        ),
        response(
            "kafka.headers",
            Headers(RECORD_NAMES, kafka=True),
            None,
            "A",
            "Headers of a record; one that gives null is left out.",
            "origin:${api};region:${record.region}",
        ),
        response(
            "kafka.headers.provenance.enabled",
            Bool(),
            "false",
            "A",
            "Adds khttp-id (api, shard, sequence, index: the same after a retry) and "
            "khttp-url without its query.",
            "true",
        ),
        response(
            "deduplication.enabled",
            Bool(),
            "false",
            "A",
            "Drops records whose key fields were seen within the window and whose "
            "first copy was acknowledged.",
            "true",
        ),
        response(
            "deduplication.key.fields",
            Csv(RecordPath()),
            None,
            "A",
            "What makes two records the same; unset: the whole output record.",
            "id,version",
        ),
        response(
            "deduplication.window.minutes",
            Int(1, 10080, "minutes"),
            "60",
            "A",
            "How long a record is remembered after it was last seen.",
        ),
        response(
            "deduplication.store",
            Choice(("MEMORY", "STATE")),
            "MEMORY",
            "A",
            "Where the keys seen are kept: in the task alone, or in the state as well, "
            "which a restart does not empty.",
            "STATE",
        ),
    ]


KEYS = _keys()
