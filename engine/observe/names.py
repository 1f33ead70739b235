"""
Names: every number the engine shows, once, with all of its spellings.

Owns the one table from which `/metrics`, `/health/metrics`, Jolokia, the
Connect aliases, the dashboard, the alert rules and the reference are made; it
counts nothing itself, and no other file may invent a name.  It is long as a table is:
whoever adds a number adds a row.

Counts of pages and records live on the board and survive a task's restart;
what has a distribution or further labels goes through `observe.meters`; what
only the admin process can know is computed there when it is asked.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from engine.observe.failures import KINDS

#: Seconds; OpenTelemetry's advice for HTTP durations, and one long tail.
SECONDS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    30.0,
)


#: What the rate limiter makes a request wait for: the connector's rate, the
#: api's own; a time that the API named, the end of a window in which nothing
#: is left, a refusal (429, 503) that names no time.
LIMITED = ("limiter", "api_limiter", "retry_after", "budget", "throttled")

#: What keeps a shard from asking though it wants to.
HELD_BACK = (*LIMITED, "breaker")

#: All that is waited for.
WAITED = (*HELD_BACK, "broker")


class MetricKind(Enum):
    """Prometheus' type of a family."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class MetricOrigin(Enum):
    """Who keeps a metric's number."""

    #: A column of the board, one value for each shard.
    BOARD = "board"
    #: `observe.meters` in the tasks, once a second.
    METERS = "meters"
    #: Computed by the admin process when it is asked.
    ADMIN = "admin"


class Merge(Enum):
    """What becomes of a gauge that several tasks state without a task label."""

    SUM = "sum"
    MAX = "max"
    LAST = "mostrecent"


class Metric(Struct, frozen=True, eq=False):
    """
    One family.  Compared and hashed by identity: it is a key of the hot path.

    Attributes:
        name: On `/metrics`; counters end in `_total`.
        kind: Counter, gauge or histogram.
        labels: Label names in order.  `connector` and `task` are filled in by
            `Meters`; a caller gives the values of the rest, in this order.
        meaning: One sentence.
        act: What to do when it moves.
        origin: Who keeps it.
        column: The board's column, where origin is BOARD.
        unit: "seconds", "bytes", "ratio" or "".
        buckets: Upper bounds, where kind is HISTOGRAM.
        merge: Where kind is GAUGE and `task` is not among the labels.
        detailed: Only with `performance.metrics.detailed=true`.
        values: Label name -> the values it can take, where they are few.
    """

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    meaning: str
    act: str
    origin: MetricOrigin
    column: str = ""
    unit: str = ""
    buckets: tuple[float, ...] = ()
    merge: Merge = Merge.SUM
    detailed: bool = False
    values: dict[str, tuple[str, ...]] = {}

    @property
    def own(self) -> tuple[str, ...]:
        """The labels whose values a caller of `Meters` gives."""
        return tuple(x for x in self.labels if x not in ("connector", "task"))


def _board(name: str, column: str, meaning: str, act: str, unit: str = "") -> Metric:
    return Metric(
        f"http_source_{name}_total",
        MetricKind.COUNTER,
        ("connector", "task", "api"),
        meaning,
        act,
        MetricOrigin.BOARD,
        column=column,
        unit=unit,
    )


def _counter(
    name: str,
    own: tuple[str, ...],
    meaning: str,
    act: str,
    unit: str = "",
    values: dict[str, tuple[str, ...]] | None = None,
) -> Metric:
    return Metric(
        f"http_source_{name}_total",
        MetricKind.COUNTER,
        ("connector", "task", *own),
        meaning,
        act,
        MetricOrigin.METERS,
        unit=unit,
        values=values or {},
    )


def _histogram(
    name: str,
    own: tuple[str, ...],
    meaning: str,
    act: str,
    detailed: bool = False,
    values: dict[str, tuple[str, ...]] | None = None,
) -> Metric:
    return Metric(
        f"http_source_{name}_seconds",
        MetricKind.HISTOGRAM,
        ("connector", "task", *own),
        meaning,
        act,
        MetricOrigin.METERS,
        unit="seconds",
        buckets=SECONDS,
        detailed=detailed,
        values=values or {},
    )


def _gauge(
    name: str,
    own: tuple[str, ...],
    meaning: str,
    act: str,
    unit: str = "",
    task: bool = True,
    merge: Merge = Merge.SUM,
    values: dict[str, tuple[str, ...]] | None = None,
) -> Metric:
    return Metric(
        f"http_source_{name}",
        MetricKind.GAUGE,
        ("connector", "task", *own) if task else ("connector", *own),
        meaning,
        act,
        MetricOrigin.METERS,
        unit=unit,
        merge=merge,
        values=values or {},
    )


def _admin(
    name: str,
    kind: MetricKind,
    labels: tuple[str, ...],
    meaning: str,
    act: str,
    unit: str = "",
    values: dict[str, tuple[str, ...]] | None = None,
) -> Metric:
    return Metric(
        f"http_source_{name}",
        kind,
        labels,
        meaning,
        act,
        MetricOrigin.ADMIN,
        unit=unit,
        values=values or {},
    )


# --- What is counted for each shard, on the board ---------------------------

PAGES = _board(
    "pages",
    "pages",
    "Pages acknowledged, or found unchanged.",
    "Flat while the API has data: look at requests and waits.",
)
POLLS = _board(
    "polls",
    "polls",
    "Polls that ended, first page to last.",
    "Flat for longer than the interval: look at the task's state.",
)
POLLS_SKIPPED = _board(
    "polls_skipped",
    "polls_skipped",
    "Ticks of the interval that passed while a poll still ran.",
    "Rising: the interval is shorter than a poll; raise it or add tasks.",
)
POLLS_TRUNCATED = _board(
    "polls_truncated",
    "polls_truncated",
    "Polls cut by pagination.max.pages; the next one goes on from there.",
    "Rising for ever: the API has more than is fetched; raise the bound.",
)
POLLS_DOUBTFUL = _board(
    "polls_doubtful",
    "polls_doubtful",
    "Times a poll went against what the API said, or ended where it said nothing: "
    "fewer or more records than promised, pages that repeat, refusals behind the last "
    "page, a new start.",
    "Any: the log names each with its words.",
)
POLLS_WITHHELD = _board(
    "polls_withheld",
    "polls_withheld",
    "Polls of SNAPSHOT_DIFF after which no key was taken for gone: interrupted, an "
    "empty first page, too great a fall, or not all was shown.",
    "Any: the log names why; http.snapshot.max.fall allows a fall that is meant.",
)
TOMBSTONES = _board(
    "snapshot_gone",
    "tombstones",
    "Keys that SNAPSHOT_DIFF found gone.",
    "A jump: the API shows less than it did.",
)
POLLS_FAILED = _board(
    "polls_failed",
    "errors",
    "Polls given up; the position is kept.",
    "Rising: the log names the API and the status.",
)
RECORDS_RECEIVED = _board(
    "records_received",
    "received",
    "Records on pages whose fate is known.",
    "Equals written + filtered + dead-lettered + deduplicated, always.",
)
RECORDS_WRITTEN = _board(
    "records_written",
    "produced",
    "Records acknowledged by Kafka.",
    "Falls to nothing: the API has nothing new, or something is broken.",
)
RECORDS_FILTERED = _board(
    "records_filtered",
    "filtered",
    "Records left out by a filter or a function.",
    "A jump: the API's data or a rule has changed.",
)
RECORDS_DEAD_LETTERED = _board(
    "records_dead_lettered",
    "dead_lettered",
    "Bad records set aside under errors.tolerance=all.",
    "Any: read them with `dlq show`, mend the rule, replay.",
)
RECORDS_DEDUPLICATED = _board(
    "records_deduplicated",
    "deduplicated",
    "Records left out because they were delivered before.",
    "A jump: the API repeats itself, or a position went back.",
)
RECORDS_DOUBLED = _board(
    "records_with_doubled_members",
    "doubled",
    "Records that have a member twice, on pages whose first record has one; the "
    "last one counts.",
    "Any: ask the API's owner which of the two is meant.",
)
PAGES_SAVED = _board(
    "pages_saved",
    "saved",
    "Pages found unchanged, for which nothing had to be produced.",
    "None with ETags in use: the API does not honour conditional requests.",
)
CACHE_SAVED_RECORDS = _board(
    "cache_saved_records",
    "saved_records",
    "Records on pages found unchanged; none of them was produced again.",
    "What mode FULL does not cost.",
)
CACHE_SAVED_REQUESTS = _board(
    "cache_saved_requests",
    "saved_requests",
    "Pages for which the API was not asked at all.",
    "None with lifetimes in use: tiers too small, or shorter than the interval.",
)
CACHE_SAVED_BYTES = _board(
    "cache_saved_bytes",
    "saved_bytes",
    "Body bytes that did not have to be fetched.",
    "What the cache is worth.",
    unit="bytes",
)
RESPONSE_BYTES = _board(
    "response_bytes",
    "bytes",
    "Bytes of response bodies on the wire.",
    "Near the line's capacity: switch compression on.",
    unit="bytes",
)

# --- What the tasks measure --------------------------------------------------

REQUESTS = _counter(
    "requests",
    ("endpoint", "outcome", "code_class"),
    "Requests that ended, their retries included in one.",
    "outcome=failed rising: look at code_class, then at the log.",
    values={
        "outcome": ("ok", "failed"),
        "code_class": ("1xx", "2xx", "3xx", "4xx", "5xx", "none"),
    },
)
REQUEST_SECONDS = _histogram(
    "request_duration",
    (),
    "Request sent to body complete, the last try.",
    "Rising: the API is slow; fewer fetches in flight may help it.",
)
FETCH_TO_ACK_SECONDS = _histogram(
    "fetch_to_ack",
    (),
    "Request sent to its last record acknowledged: the latency that is shown.",
    "Rising while request_duration is not: look at the broker.",
)
STAGE_SECONDS = _histogram(
    "stage",
    ("api", "stage"),
    "Time a page spends in each stage.",
    "The stage that grows is the one to tune.",
    detailed=True,
    values={
        "stage": (
            "limiter",
            "dns",
            "connect",
            "tls",
            "first_byte",
            "body",
            "decode",
            "transform",
            "encode",
            "ack",
        )
    },
)
FAILURES = _counter(
    "failures",
    ("api", "kind"),
    "Tries and polls that failed, by what a person would call the cause.",
    "Rising: `kafka-http-source status` has the words of the last one.",
    values={"kind": KINDS},
)
RETRIES = _counter(
    "retries",
    ("reason",),
    "Tries after the first.",
    "reason=429: the rate limit is set too high for the API.",
    values={"reason": ("unanswered", "bad_page", "429", "5xx", "other")},
)
RATE_LIMIT_LEFT = _gauge(
    "rate_limit_left",
    ("limit",),
    "Requests of our own limit that could go at once.",
    "Always 0: the limit sets the pace.",
    task=False,
    merge=Merge.LAST,
)
RATE_LIMIT_CAPACITY = _gauge(
    "rate_limit_capacity",
    ("limit",),
    "Most requests of our own limit that could ever go at once.",
    "Moves with the configuration.",
    task=False,
    merge=Merge.LAST,
)
RATE_LIMIT_RATE = _gauge(
    "rate_limit_requests_per_second",
    ("limit",),
    "Our own limit.",
    "Moves with the configuration.",
    task=False,
    merge=Merge.LAST,
)
RATE_LIMIT_REMAINING = _gauge(
    "rate_limit_remaining",
    ("endpoint",),
    "Requests the API says are left in its window.",
    "Near 0: a pause follows.",
    task=False,
    merge=Merge.LAST,
)
RATE_LIMIT_QUOTA = _gauge(
    "rate_limit_quota",
    ("endpoint",),
    "Requests the API says its window holds.",
    "Moves: the API has changed what it allows.",
    task=False,
    merge=Merge.LAST,
)
RATE_LIMIT_PAUSED = _gauge(
    "rate_limit_paused_seconds",
    ("endpoint",),
    "Time for which the API wants no further request.",
    "Above 0 again and again: lower rate.limit.requests.per.second.",
    unit="seconds",
    task=False,
    merge=Merge.LAST,
)
RATE_LIMIT_FACTOR = _gauge(
    "rate_limit_factor_ratio",
    ("endpoint",),
    "Part of our own limit that is used; below 1 after a 429 where it adapts.",
    "Below 1 for long: the limit is set too high for the API.",
    unit="ratio",
    task=False,
    merge=Merge.LAST,
)
BREAKER_STATE = _gauge(
    "breaker_state",
    ("endpoint",),
    "0 closed, 1 one probe may go, 2 open.",
    "2: the endpoint is down; polls are given up without a request.",
    task=False,
    merge=Merge.LAST,
)
#: Lookups that needed no body from the API, and those by which the hit ratio is
#: judged: only what had been kept and was gone can be the cache's failing.  What
#: is asked for the first time, may not be kept, or has changed is no miss.
CACHE_HITS = ("hit", "revalidated", "stale")
CACHE_JUDGED = (*CACHE_HITS, "miss")

CACHE_REQUESTS = _counter(
    "cache_requests",
    ("level", "result"),
    "Lookups: one each, by the tier that answered and how; level none: the API did. "
    "miss: it had been kept and was gone; first: never asked before; news: the API "
    "had another answer; uncacheable: it may not be kept.",
    "Misses rising: tiers too small for what is polled again.",
    values={
        "level": ("1", "2", "3", "none"),
        "result": (*CACHE_JUDGED, "first", "news", "uncacheable"),
    },
)
CACHE_EVICTIONS = _counter(
    "cache_evictions",
    ("level",),
    "Entries dropped before their time.",
    "Rising with a low hit ratio: the tier is too small.",
    values={"level": ("1", "2", "3")},
)
CACHE_ERRORS = _counter(
    "cache_errors",
    ("level",),
    "Failures of the cache; each meant one uncached request.",
    "Any: the log names the file; a broken one is set aside by itself.",
    values={"level": ("1", "2", "3")},
)
CACHE_WARMED = _counter(
    "cache_warmed",
    ("result",),
    "Fetches ahead into the cache, by whether they were used later.",
    "Mostly unused: drop a pattern.",
    values={"result": ("fetched", "used", "unused")},
)
CACHE_BYTES = _gauge(
    "cache_bytes",
    ("level",),
    "Bytes held by a tier.",
    "At its limit with evictions: raise cache.max.memory.bytes.",
    unit="bytes",
    values={"level": ("1", "2", "3")},
)
CACHE_ENTRIES = _gauge(
    "cache_entries",
    ("level",),
    "Responses held by a tier.",
    "At its limit with evictions: raise the tier's size.",
    values={"level": ("1", "2", "3")},
)
CACHE_ENTRIES_LIMIT = _gauge(
    "cache_entries_limit",
    ("level",),
    "Responses a tier may hold now; auto-tuning moves it.",
    "Moves only with cache.auto.tuning.enabled.",
    values={"level": ("1", "2", "3")},
)
SCHEMA_REQUESTS = _counter(
    "schema_requests",
    ("result",),
    "Lookups in the schema cache.",
    "Misses rising: cache.schema.max.size is too small.",
    values={"result": ("hit", "miss")},
)
POOL_CONNECTIONS = _gauge(
    "pool_connections",
    ("state",),
    "Connections to the API.",
    "busy at http.client.max.connections: fetches wait for a connection.",
    values={"state": ("busy", "idle")},
)
CONNECTIONS_OPENED = _counter(
    "connections_opened",
    (),
    "Connections opened to the API.",
    "As fast as requests: keep-alive does not work.",
)
RECORD_ERRORS = _counter(
    "record_errors",
    ("stage",),
    "Bad records, by the stage that refused them.",
    "Any: the API's data or a rule has changed.",
    values={
        "stage": (
            "decode",
            "map",
            "enrich",
            "filter",
            "validate",
            "function",
            "route",
            "convert",
            "size",
            "produce",
        )
    },
)
DEAD_LETTERS = _counter(
    "dead_letters",
    ("to",),
    "Dead letters, by where they went.",
    "to=log: name a topic, the log is no place to replay from.",
    values={"to": ("topic", "log")},
)
ACCOUNTING_ERRORS = _counter(
    "accounting_errors",
    (),
    "Pages whose sums did not add up; the task ended.",
    "Any: a bug of ours; keep the log.",
)
RECORDS_ACTIVE = _gauge(
    "records_active",
    (),
    "Records handed to the producer and not yet acknowledged.",
    "Flat and high: the broker is slow.",
)
BUFFER_BYTES = _gauge(
    "producer_buffer_bytes",
    (),
    "Bytes encoded and not yet acknowledged.",
    "At producer.buffer.memory: fetching waits for the broker.",
    unit="bytes",
)
BATCHES = _counter(
    "batches",
    (),
    "Record batches acknowledged.",
    "Many small ones: raise producer.linger.ms.",
)
COMMITS = _counter(
    "offset_commits",
    ("result",),
    "Attempts to save where shards stand; in a transaction they count as it ends.",
    "failed rising: the state topic or the broker has a problem.",
    values={"result": ("ok", "failed")},
)
COMMIT_SECONDS = _histogram(
    "offset_commit",
    (),
    "Time to save where a shard stands.",
    "Rising: look at the broker.",
)
TRANSACTIONS = _counter(
    "transactions",
    ("result",),
    "Transactions, by how they ended.",
    "aborted or doubtful rising: the log says what was not acknowledged; nothing of "
    "them is lost or seen twice.",
    values={"result": ("committed", "aborted", "doubtful")},
)
TRANSACTION_SECONDS = _histogram(
    "transaction",
    (),
    "Time from a transaction's first page to its commit.",
    "Above a second with transaction.boundary=poll: the broker commits slowly.",
)
TRANSACTION_RECORDS = _counter(
    "transaction_records",
    (),
    "Records in transactions that were committed.",
    "Few in each: polls are short, and each ends one.",
)
TRANSACTION_RECORDS_MIN = _gauge(
    "transaction_records_min",
    (),
    "Records in the smallest of the task's transactions.",
    "0: a poll brought nothing new, and its position is kept all the same.",
)
TRANSACTION_RECORDS_MAX = _gauge(
    "transaction_records_max",
    (),
    "Records in the largest of the task's transactions.",
    "Large: transaction.boundary.interval.ms collects much.",
)
EOS_ACTIVE = _gauge(
    "eos_active",
    (),
    "1 if records and state go in one transaction.",
    "0 where it was asked for: the log of the start says why.",
    task=False,
    merge=Merge.LAST,
)
TLS_INSECURE = _gauge(
    "tls_insecure",
    (),
    "1 if certificates are not verified.",
    "1: set https.ssl.verify=true again.",
    task=False,
    merge=Merge.MAX,
)

# --- What the admin process computes -----------------------------------------

BUILD_INFO = _admin(
    "build_info",
    MetricKind.GAUGE,
    ("version", "commit", "python"),
    "Always 1; what is running, in its labels.",
    "Changes with an upgrade.",
)
START_TIME = _admin(
    "start_timestamp_seconds",
    MetricKind.GAUGE,
    (),
    "When the supervisor started; all totals count from then.",
    "Moves: the whole engine was restarted.",
    unit="seconds",
)
STATUS = _admin(
    "health_status",
    MetricKind.GAUGE,
    ("connector", "status"),
    "1 for what /health says of the connector, 0 for the rest.",
    "failed or degraded: /health names the reason.",
    values={"status": ("starting", "healthy", "degraded", "failed")},
)
TASKS = _admin(
    "tasks",
    MetricKind.GAUGE,
    ("connector", "state"),
    "Tasks by state.",
    "failed above 0: the status names the trace.",
    values={
        "state": (
            "unassigned",
            "running",
            "paused",
            "failed",
            "restarting",
        )
    },
)
SHARDS_FAILED = _admin(
    "shards_failed",
    MetricKind.GAUGE,
    ("connector",),
    "Shards given up; the rest of their tasks goes on.",
    "Above 0: the API refuses for good; the status names the reason.",
)
TASK_RESTARTS = _admin(
    "task_restarts_total",
    MetricKind.COUNTER,
    ("connector", "task"),
    "Times a task process was started again.",
    "Rising: the log of the supervisor says how it ended.",
)
LAST_SUCCESS = _admin(
    "last_success_timestamp_seconds",
    MetricKind.GAUGE,
    ("connector", "task", "api"),
    "When a page was last delivered or found unchanged, or a poll ended well.",
    "Older than three intervals: /health says failed.",
    unit="seconds",
)
POLLS_GIVEN_UP = _admin(
    "polls_given_up",
    MetricKind.GAUGE,
    ("connector", "api"),
    "Polls given up in a row, the most of any shard of the api; 0 once one ends well.",
    "3 or more: /health says failed, and the words of the failure.",
)
NEXT_POLL = _admin(
    "next_poll_timestamp_seconds",
    MetricKind.GAUGE,
    ("connector", "task", "api"),
    "When the api is polled next; absent while it is polled.",
    "In the past: its task does not run.",
    unit="seconds",
)
POLL_INTERVAL = _admin(
    "poll_interval_seconds",
    MetricKind.GAUGE,
    ("connector", "api"),
    "The configured time from poll to poll; what last_success is held against.",
    "Moves with the configuration.",
    unit="seconds",
)
WAIT_SECONDS = _admin(
    "wait_seconds_total",
    MetricKind.COUNTER,
    ("connector", "task", "api", "on"),
    "Time spent waiting, by what was waited for.",
    "The largest is what bounds the throughput.",
    unit="seconds",
    values={"on": WAITED},
)
RATE_LIMIT_WAIT_SECONDS = _admin(
    "rate_limit_wait_seconds_total",
    MetricKind.COUNTER,
    ("connector", "task"),
    "Time spent waiting for our own limits and for what the API demands.",
    "Near one second a second: the limit, not the engine, sets the pace.",
    unit="seconds",
)
CACHE_HIT_RATIO = _admin(
    "cache_hit_ratio",
    MetricKind.GAUGE,
    ("connector",),
    "Share of lookups that needed no body, over cache.statistics.window.minutes.",
    "Low: see cache_requests_total by level.",
    unit="ratio",
)
CACHE_HIT_RATIO_LOW = _admin(
    "cache_hit_ratio_low",
    MetricKind.GAUGE,
    ("connector",),
    "1 if the hit ratio is below cache.hit.ratio.threshold, 100 lookups seen.",
    "1: raise the tiers' sizes or their TTLs.",
)
ERROR_RATIO = _admin(
    "error_ratio",
    MetricKind.GAUGE,
    ("connector",),
    "The larger of failed requests and bad records, of the last 5 minutes.",
    "Above health.check.error.rate.threshold: degraded.",
    unit="ratio",
)
POOL_UTILIZATION = _admin(
    "pool_utilization_ratio",
    MetricKind.GAUGE,
    ("connector",),
    "Busy connections / http.client.max.connections, mean over the tasks.",
    "Near 1: raise the bound, if the API allows it.",
    unit="ratio",
)
SCALING = _admin(
    "scaling_decisions_total",
    MetricKind.COUNTER,
    ("connector", "direction", "reason"),
    "Judgements of auto-scaling.",
    "direction=none with a high load: the reason says what holds it.",
    values={"direction": ("up", "down", "none")},
)
RELOADS = _admin(
    "reloads_total",
    MetricKind.COUNTER,
    ("result",),
    "Reloads of the configuration.",
    "failed: the old one keeps running; the log names the finding.",
    values={"result": ("ok", "failed")},
)
WORKER_CPU = _admin(
    "worker_cpu_seconds_total",
    MetricKind.COUNTER,
    ("worker",),
    "CPU time of each process, user and system.",
    "Near one second a second: add tasks.",
    unit="seconds",
)
WORKER_MEMORY = _admin(
    "worker_resident_memory_bytes",
    MetricKind.GAUGE,
    ("worker",),
    "Resident memory of each process.",
    "Rising without end: set process.memory.max.bytes and tell us.",
    unit="bytes",
)
WORKER_DESCRIPTORS = _admin(
    "worker_open_fds",
    MetricKind.GAUGE,
    ("worker",),
    "Open file descriptors of each process.",
    "Rising without end: tell us.",
)
WORKER_HEARTBEAT = _admin(
    "worker_heartbeat_age_seconds",
    MetricKind.GAUGE,
    ("worker",),
    "Time since a process last said that it lives.",
    "Beyond task.heartbeat.timeout.ms the supervisor starts it again.",
    unit="seconds",
)

#: Every family, in the order in which `/metrics` shows them.
TABLE: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)

#: What was waited for -> the board's column, in nanoseconds.
WAITS: dict[str, str] = {on: f"wait_{on}_ns" for on in WAITED}

#: Columns of the board that are shown as they are.
BY_COLUMN: dict[str, Metric] = {
    metric.column: metric for metric in TABLE if metric.origin is MetricOrigin.BOARD
}


# --- Kafka Connect's words ------------------------------------------------


class Attribute(Struct, frozen=True):
    """
    One attribute of an MBean.

    Attributes:
        domain: The part before the colon.
        group: Its `type`.
        name: As JMX spells it.
        per: Further key properties of the object name, in order.
        kind: "long", "double" or "string".
        meaning: One sentence.
        of: The families it is made from; empty where it is a state or a name.
        detailed: Only with `jmx.metrics.detailed=true`.
    """

    domain: str
    group: str
    name: str
    per: tuple[str, ...]
    kind: str
    meaning: str
    of: tuple[Metric, ...] = ()
    detailed: bool = False

    @property
    def counter(self) -> bool:
        """True if it never falls."""
        return self.name.endswith("-total")

    @property
    def strimzi(self) -> str:
        """
        Name of the family by the rules of Strimzi's sample for jmx_exporter.

        "" for attributes those rules leave out.
        """
        if self.domain != CONNECT:
            return ""
        if self.kind == "string" and self.group not in _STATED:
            return ""
        short = self.group.removesuffix("-metrics").removeprefix("connect-")
        return f"kafka_connect_{short}_{self.name}".replace("-", "_")

    @property
    def confluent(self) -> str:
        """Name of the family by the rules of Confluent's monitoring stack."""
        if self.domain != CONNECT:
            return ""
        if self.kind == "string":
            return f"kafka_connect_{self.group}".replace("-", "_")
        return f"kafka_connect_{self.group}_{self.name}".replace("-", "_")


CONNECT = "kafka.connect"
HTTP = "kafka.connect.http"
_STATED = ("connector-metrics", "connector-task-metrics")

_C = ("connector",)
_CT = ("connector", "task")


def _of(
    group: str,
    per: tuple[str, ...],
    rows: tuple[tuple[str, str, str, tuple[Metric, ...]], ...],
) -> tuple[Attribute, ...]:
    return tuple(
        Attribute(CONNECT, group, name, per, kind, meaning, of)
        for name, kind, meaning, of in rows
    )


#: The object name the founding scripts ask for, alone and for each connector.
MAIN = "HttpSourceConnector"

_MAIN_ROWS: tuple[tuple[str, str, str, tuple[Metric, ...]], ...] = (
    (
        "MessagesPerSecond",
        "long",
        "Records acknowledged a second, mean of the last 60 s.",
        (RECORDS_WRITTEN,),
    ),
    (
        "AverageResponseTime",
        "double",
        "Milliseconds from request sent to body complete, mean of 5 minutes.",
        (REQUEST_SECONDS,),
    ),
    (
        "CacheHitRatio",
        "double",
        "Share of lookups that needed no body; 1.0 when nothing was asked.",
        (CACHE_REQUESTS,),
    ),
    (
        "ConnectionPoolUtilization",
        "double",
        "Busy connections / http.client.max.connections, mean over the tasks.",
        (POOL_CONNECTIONS,),
    ),
    (
        "ErrorRate",
        "double",
        "Percent: the larger of failed requests and bad records, 5 minutes.",
        (REQUESTS, RECORD_ERRORS),
    ),
    (
        "TotalMessages",
        "long",
        "Records acknowledged since the start.",
        (RECORDS_WRITTEN,),
    ),
    (
        "AverageLatency",
        "double",
        "Milliseconds from request sent to record acknowledged, 5 minutes.",
        (FETCH_TO_ACK_SECONDS,),
    ),
)


def _detail(
    group: str, per: str, rows: tuple[tuple[str, str, str, Metric], ...]
) -> tuple[Attribute, ...]:
    return tuple(
        Attribute(
            HTTP, group, name, ("connector", per), kind, meaning, (of,), detailed=True
        )
        for name, kind, meaning, of in rows
    )


#: Every attribute of every MBean.
ATTRIBUTES: tuple[Attribute, ...] = (
    *(
        Attribute(HTTP, MAIN, name, (), kind, meaning, of)
        for name, kind, meaning, of in _MAIN_ROWS
    ),
    *(
        Attribute(HTTP, MAIN, name, _C, kind, meaning, of)
        for name, kind, meaning, of in _MAIN_ROWS
    ),
    *_detail(
        "Api",
        "api",
        (
            ("Pages", "long", PAGES.meaning, PAGES),
            ("Polls", "long", POLLS.meaning, POLLS),
            ("RecordsReceived", "long", RECORDS_RECEIVED.meaning, RECORDS_RECEIVED),
            ("RecordsWritten", "long", RECORDS_WRITTEN.meaning, RECORDS_WRITTEN),
            ("RecordsFiltered", "long", RECORDS_FILTERED.meaning, RECORDS_FILTERED),
            (
                "RecordsDeadLettered",
                "long",
                RECORDS_DEAD_LETTERED.meaning,
                RECORDS_DEAD_LETTERED,
            ),
            (
                "RecordsDeduplicated",
                "long",
                RECORDS_DEDUPLICATED.meaning,
                RECORDS_DEDUPLICATED,
            ),
            ("ResponseBytes", "long", RESPONSE_BYTES.meaning, RESPONSE_BYTES),
        ),
    ),
    *_detail(
        "Host",
        "host",
        (
            ("Requests", "long", REQUESTS.meaning, REQUESTS),
            ("FailedRequests", "long", "Those that failed for good.", REQUESTS),
        ),
    ),
    *_detail(
        "CacheTier",
        "level",
        (
            ("Hits", "long", "Lookups this tier answered.", CACHE_REQUESTS),
            ("Entries", "long", CACHE_ENTRIES.meaning, CACHE_ENTRIES),
            ("Bytes", "long", CACHE_BYTES.meaning, CACHE_BYTES),
            ("Evictions", "long", CACHE_EVICTIONS.meaning, CACHE_EVICTIONS),
        ),
    ),
    *(
        Attribute(HTTP, "RateLimiter", name, _C, kind, metric.meaning, (metric,), True)
        for name, kind, metric in (
            ("WaitSeconds", "double", RATE_LIMIT_WAIT_SECONDS),
            ("Retries", "long", RETRIES),
        )
    ),
    *(
        Attribute(HTTP, "Transactions", name, _C, kind, meaning, (metric,), True)
        for name, kind, meaning, metric in (
            ("Committed", "long", "Transactions committed.", TRANSACTIONS),
            ("Aborted", "long", "Transactions given up.", TRANSACTIONS),
            (
                "Doubtful",
                "long",
                "Transactions of which a start had to read how they ended.",
                TRANSACTIONS,
            ),
            (
                "AverageMilliseconds",
                "double",
                "Mean time from a transaction's first page to its commit.",
                TRANSACTION_SECONDS,
            ),
        )
    ),
    *_detail(
        "CircuitBreaker",
        "host",
        (("State", "long", BREAKER_STATE.meaning, BREAKER_STATE),),
    ),
    *_of(
        "connector-metrics",
        _C,
        (
            ("status", "string", "State of the connector.", ()),
            ("connector-type", "string", "source.", ()),
            ("connector-class", "string", "The configured class.", ()),
            ("connector-version", "string", "Version of the engine.", (BUILD_INFO,)),
        ),
    ),
    *_of(
        "connector-task-metrics",
        _CT,
        (
            ("status", "string", "State of the task.", ()),
            (
                "running-ratio",
                "double",
                "Share of its life the task was running.",
                (TASKS,),
            ),
            (
                "pause-ratio",
                "double",
                "Share of its life the task was paused.",
                (TASKS,),
            ),
            (
                "offset-commit-avg-time-ms",
                "double",
                "Mean time to save where a shard stands, 5 minutes.",
                (COMMIT_SECONDS,),
            ),
            (
                "offset-commit-max-time-ms",
                "double",
                "Upper bound of the slowest save, 5 minutes.",
                (COMMIT_SECONDS,),
            ),
            (
                "offset-commit-success-percentage",
                "double",
                "Share of saves that succeeded.",
                (COMMITS,),
            ),
            (
                "offset-commit-failure-percentage",
                "double",
                "Share of saves that failed.",
                (COMMITS,),
            ),
            (
                "batch-size-avg",
                "double",
                "Mean records of a page.",
                (RECORDS_RECEIVED, PAGES),
            ),
            (
                "batch-size-max",
                "double",
                "Most records handed on in one go in the last 5 minutes.",
                (RECORDS_RECEIVED, PAGES),
            ),
        ),
    ),
    *_of(
        "source-task-metrics",
        _CT,
        (
            (
                "source-record-poll-total",
                "long",
                RECORDS_RECEIVED.meaning,
                (RECORDS_RECEIVED,),
            ),
            (
                "source-record-poll-rate",
                "double",
                "Records received a second, mean of 60 s.",
                (RECORDS_RECEIVED,),
            ),
            (
                "source-record-write-total",
                "long",
                RECORDS_WRITTEN.meaning,
                (RECORDS_WRITTEN,),
            ),
            (
                "source-record-write-rate",
                "double",
                "Records acknowledged a second, mean of 60 s.",
                (RECORDS_WRITTEN,),
            ),
            (
                "poll-batch-avg-time-ms",
                "double",
                "Mean duration of a request, 5 minutes.",
                (REQUEST_SECONDS,),
            ),
            (
                "poll-batch-max-time-ms",
                "double",
                "Upper bound of the slowest request, 5 minutes.",
                (REQUEST_SECONDS,),
            ),
            (
                "source-record-active-count",
                "long",
                RECORDS_ACTIVE.meaning,
                (RECORDS_ACTIVE,),
            ),
            (
                "source-record-active-count-avg",
                "double",
                "Its mean over 60 s.",
                (RECORDS_ACTIVE,),
            ),
            (
                "source-record-active-count-max",
                "double",
                "Its largest value of 60 s.",
                (RECORDS_ACTIVE,),
            ),
            (
                "transaction-size-min",
                "double",
                TRANSACTION_RECORDS_MIN.meaning,
                (TRANSACTION_RECORDS_MIN,),
            ),
            (
                "transaction-size-max",
                "double",
                TRANSACTION_RECORDS_MAX.meaning,
                (TRANSACTION_RECORDS_MAX,),
            ),
            (
                "transaction-size-avg",
                "double",
                "Mean records of the task's transactions that were committed.",
                (TRANSACTION_RECORDS, TRANSACTIONS),
            ),
        ),
    ),
    *_of(
        "task-error-metrics",
        _CT,
        (
            (
                "total-record-failures",
                "long",
                "Bad records that ended their task or shard.",
                (RECORD_ERRORS, RECORDS_DEAD_LETTERED),
            ),
            ("total-record-errors", "long", RECORD_ERRORS.meaning, (RECORD_ERRORS,)),
            (
                "total-records-skipped",
                "long",
                RECORDS_DEAD_LETTERED.meaning,
                (RECORDS_DEAD_LETTERED,),
            ),
            ("total-retries", "long", RETRIES.meaning, (RETRIES,)),
            (
                "total-errors-logged",
                "long",
                "Dead letters that went to the log.",
                (DEAD_LETTERS,),
            ),
            (
                "deadletterqueue-produce-requests",
                "long",
                "Dead letters that went to the topic.",
                (DEAD_LETTERS,),
            ),
            (
                "deadletterqueue-produce-failures",
                "long",
                "Always 0: a letter that cannot be written ends the task.",
                (),
            ),
            (
                "last-error-timestamp",
                "long",
                "Epoch milliseconds at which an error count was last seen to grow.",
                (RECORD_ERRORS,),
            ),
        ),
    ),
    *_of(
        "connect-worker-metrics",
        (),
        (
            ("connector-count", "long", "Connectors of this engine.", ()),
            ("task-count", "long", "Tasks of this engine.", (TASKS,)),
            (
                "connector-startup-attempts-total",
                "long",
                "Starts of connectors.",
                (),
            ),
            ("connector-startup-success-total", "long", "Those that succeeded.", ()),
            ("connector-startup-failure-total", "long", "Those that failed.", ()),
            (
                "connector-startup-success-percentage",
                "double",
                "Share that succeeded.",
                (),
            ),
            (
                "connector-startup-failure-percentage",
                "double",
                "Share that failed.",
                (),
            ),
            (
                "task-startup-attempts-total",
                "long",
                "Starts of task processes.",
                (TASK_RESTARTS,),
            ),
            ("task-startup-success-total", "long", "Those that succeeded.", ()),
            ("task-startup-failure-total", "long", "Those given up.", ()),
            (
                "task-startup-success-percentage",
                "double",
                "Share that succeeded.",
                (),
            ),
            ("task-startup-failure-percentage", "double", "Share given up.", ()),
        ),
    ),
    *_of(
        "connect-worker-metrics",
        _C,
        tuple(
            (f"connector-{state}-task-count", "long", f"Tasks that are {state}.", ())
            for state in (
                "total",
                "running",
                "paused",
                "failed",
                "unassigned",
                "destroyed",
                "restarting",
            )
        ),
    ),
    *_of(
        "connect-worker-rebalance-metrics",
        (),
        (
            ("leader-name", "string", "Address of this engine.", ()),
            ("epoch", "long", "Times shards changed hands.", ()),
            (
                "completed-rebalances-total",
                "long",
                "Times shards changed hands: the start, reloads, scaling.",
                (),
            ),
            ("rebalancing", "long", "1 while shards change hands.", ()),
            ("rebalance-max-time-ms", "double", "Time of the longest of them.", ()),
            ("rebalance-avg-time-ms", "double", "Mean time of them.", ()),
            (
                "time-since-last-rebalance-ms",
                "double",
                "Time since the last of them, or since the start.",
                (START_TIME,),
            ),
        ),
    ),
)
