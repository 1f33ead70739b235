"""
Pages: which page of the manual a key belongs to.

Owns the map from the sections of the table to the pages in `docs/`; a test holds
both together.

Read by `config.explain`, and by `check` for what it has found.
"""

from __future__ import annotations

from engine.config.sections.key import Key

#: Section of the table -> page in `docs/`.
PAGES = {
    "Identity and parallelism": "configuration.md",
    "Polling": "configuration.md",
    "Request": "configuration.md",
    "Apis, listed partitions, parents and children": "configuration.md",
    "Pagination": "paging.md",
    "Offsets and time windows": "incremental.md",
    "Jobs": "jobs.md",
    "Response to records": "answers.md",
    "HTTP client": "tuning.md",
    "Several hosts": "configuration.md",
    "Rate limit": "rate-limits.md",
    "Retries and circuit breaker": "answers.md",
    "Authentication": "authentication.md",
    "TLS towards the API": "authentication.md",
    "Where requests may go": "security.md",
    "Response cache": "cache.md",
    "Schema cache": "converters.md",
    "Transformation": "transformation.md",
    "Converters and schemas": "converters.md",
    "Bad records": "dead-letters.md",
    "Kafka": "delivery.md",
    "TLS towards Kafka": "security.md",
    "Producer": "tuning.md",
    "Producer overrides": "tuning.md",
    "Admin client": "delivery.md",
    "Topics": "delivery.md",
    "Delivery and state": "delivery.md",
    "Metrics, health, logs": "monitoring.md",
    "Auto-scaling": "tuning.md",
    "Processes": "running.md",
    "Providers": "configuration.md",
    "Cluster": "limits.md",
}


def page_of(key: Key | None) -> str:
    """Where the manual speaks of a key; of no key: how a configuration is written."""
    name = "configuration.md" if key is None else PAGES[key.section]
    return f"docs/{name}"
