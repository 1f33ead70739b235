"""
Options of rate limits, retries and the circuit breaker.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

import math
from typing import ClassVar

from engine.config.kinds import Bool, Choice, Codes, Int, Number, StatusCodes, ms
from engine.config.sections.key import Computed, Lookup
from engine.config.sections.section import Section, duration, option

DAY = 86400000


def _burst(get: Lookup) -> object:
    rate = get("rate.limit.requests.per.second")
    return max(1, math.ceil(rate)) if isinstance(rate, float) else None


class RateLimitConfig(Section, frozen=True, kw_only=True):
    """How often an api may be asked."""

    TITLE: ClassVar[str] = "Rate limit"
    SCOPE: ClassVar[str] = "A"

    enabled: bool = option(
        "rate.limit.enabled",
        Bool(),
        "false",
        "Our own limit. What the server asks for is obeyed without it.",
        "true",
    )
    per_second: float = option(
        "rate.limit.requests.per.second",
        Number(0.0001, 100000),
        "10",
        "Tries a second of rate.limit.scope: by default of all tasks together.",
        "20",
    )
    algorithm: str = option(
        "rate.limit.algorithm",
        Choice(("TOKEN_BUCKET", "SLIDING_WINDOW", "FIXED_WINDOW", "LEAKY_BUCKET")),
        "TOKEN_BUCKET",
        "How the rate is shaped: bursts (token), even (leaky), by windows.",
        "SLIDING_WINDOW",
    )
    burst: int = option(
        "rate.limit.burst.capacity",
        Int(1, 1000000),
        Computed(_burst, "the rate, rounded up"),
        "Size of the bucket; for LEAKY_BUCKET the places in its queue. The "
        "window algorithms do not use it.",
        "50",
    )
    window: float = duration(
        "rate.limit.window.ms",
        ms(10, DAY),
        "1000",
        "Length of a window; stretched to 1/rate if that is longer.",
    )
    respect: bool = option(
        "rate.limit.respect.headers",
        Bool(),
        "true",
        "Retry-After, RateLimit and X-RateLimit pause all tasks of that host.",
        "false",
    )
    retry_after_max: float = duration(
        "rate.limit.retry.after.max.ms",
        ms(),
        "3600000",
        "A longer demand of the server is cut to it.",
    )
    adaptive: bool = option(
        "rate.limit.adaptive.enabled",
        Bool(),
        "false",
        "429 halves the rate; without one it creeps back.",
        "true",
    )


class RateLimitsConfig(Section, frozen=True, kw_only=True):
    """Among whom a rate is shared."""

    TITLE: ClassVar[str] = "Rate limit"
    SCOPE: ClassVar[str] = "C"

    scope: str = option(
        "rate.limit.scope",
        Choice(("GLOBAL", "PER_API", "PER_HOST", "PER_TASK")),
        "GLOBAL",
        "What one limit counts. An api's own rate under GLOBAL is a second limit "
        "inside the first.",
        "PER_HOST",
    )


class RetryConfig(Section, frozen=True, kw_only=True):
    """How a request that failed is tried again."""

    TITLE: ClassVar[str] = "Retries and circuit breaker"
    SCOPE: ClassVar[str] = "A"

    behavior: str = option(
        "behavior.on.error",
        Choice(("FAIL", "IGNORE")),
        "FAIL",
        "After a permanent failure: FAIL ends the api's shard, IGNORE tries "
        "again at the next tick. The position is kept either way.",
        "IGNORE",
    )
    max_retries: int = option(
        "max.retries",
        Int(0, 1000),
        "5",
        "Tries of a request after the first; each costs a token.",
    )
    backoff: float = duration(
        "retry.backoff.ms", ms(1, 3600000), "1000", "First pause before a retry."
    )
    backoff_max: float = duration(
        "retry.backoff.max.ms", ms(1, 3600000), "60000", "Longest pause before a retry."
    )
    backoff_policy: str = option(
        "retry.backoff.policy",
        Choice(("EXPONENTIAL_WITH_JITTER", "CONSTANT_VALUE")),
        "EXPONENTIAL_WITH_JITTER",
        "How the pause grows. A Retry-After wins over it.",
        "CONSTANT_VALUE",
    )
    statuses: Codes = option(
        "retry.on.status.codes",
        StatusCodes(),
        "408,425,429,500,502-504",
        "Statuses that are tried again, 401 and 403 too where they stand here; 429 "
        "and 503 always are, and a 403 or 413 that says it is a matter of time.",
    )


class CircuitBreakerConfig(Section, frozen=True, kw_only=True):
    """When a host that fails is left in peace."""

    TITLE: ClassVar[str] = "Retries and circuit breaker"
    SCOPE: ClassVar[str] = "A"

    enabled: bool = option(
        "circuit.breaker.enabled",
        Bool(),
        "true",
        "One breaker a host, shared by all tasks.",
        "false",
    )
    threshold: int = option(
        "circuit.breaker.failure.threshold",
        Int(1, 1000),
        "5",
        "Requests given up in a row that open it (no answer or 5xx, not 429).",
    )
    recovery: float = duration(
        "circuit.breaker.recovery.timeout.ms",
        ms(100, 3600000),
        "30000",
        "Then one probe goes for all tasks: it closes the breaker or opens it anew.",
    )
