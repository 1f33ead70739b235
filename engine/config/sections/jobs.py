"""
Options of jobs: data that an api makes first and gives out then.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from typing import ClassVar

from engine.config.grammar import REQUEST_NAMES
from engine.config.kinds import (
    BodyText,
    Choice,
    CommaList,
    Comment,
    RecordPath,
    TemplateText,
    Text,
    ms,
)
from engine.config.sections.section import Section, duration, option, unset

_URL = TemplateText(REQUEST_NAMES, url=True, comment=Comment.ENDS_OUTSIDE_TEMPLATE)


class JobsConfig(Section, frozen=True, kw_only=True):
    """How a job is created, watched and fetched from."""

    TITLE: ClassVar[str] = "Jobs"
    SCOPE: ClassVar[str] = "A"

    create_url: str | None = unset(
        "http.job.create.url",
        _URL,
        None,
        "Each poll creates a job there, waits until it is done, and fetches what it has "
        "made. ${job.<path>} is a field of the answer in the requests behind it.",
        "https://api.example.com/v1/jobs",
    )
    create_method: str = option(
        "http.job.create.method",
        Choice(("POST", "PUT", "GET")),
        "POST",
        "By what method. A creation whose end is unknown is not sent again.",
        "PUT",
    )
    create_body: str | None = unset(
        "http.job.create.body",
        BodyText(REQUEST_NAMES),
        None,
        "With what body.",
        '{"operation": "query", "query": "SELECT Id FROM Account"}',
    )
    status_url: str | None = unset(
        "http.job.status.url",
        _URL,
        None,
        "Where its status is asked for; unset, at the Location of the answer to its "
        "creation.",
        "https://api.example.com/v1/jobs/${job.id}",
    )
    status_method: str = option(
        "http.job.status.method",
        Choice(("GET", "POST")),
        "GET",
        "By what method.",
        "POST",
    )
    status_body: str | None = unset(
        "http.job.status.body",
        BodyText(REQUEST_NAMES),
        None,
        "With what body.",
        '{"id": "${job.id}"}',
    )
    status_field: str | None = unset(
        "http.job.status.field",
        RecordPath(header=True),
        None,
        "Where the status stands in that answer. Unset: 202 is pending, any other "
        "status of a success is done.",
        "state",
    )
    done: tuple[str, ...] = option(
        "http.job.status.done.values",
        CommaList(Text()),
        "done,completed,complete,jobcomplete,success,succeeded,finished,ready",
        "What it says when the job is done, whatever the case of its letters.",
        "JobComplete",
    )
    failed: tuple[str, ...] = option(
        "http.job.status.failed.values",
        CommaList(Text()),
        "failed,failure,error,aborted,cancelled,canceled,fatal,expired",
        "What it says when the job has failed; anything else is pending.",
        "Failed,Aborted",
    )
    interval: float = duration(
        "http.job.interval.ms",
        ms(10),
        "5000",
        "Pause between two looks at the status; a longer Retry-After is heeded.",
        "30000",
    )
    timeout: float = duration(
        "http.job.timeout.ms",
        ms(1000),
        "3600000",
        "How long a job may take; then the poll is given up, and the next one creates "
        "another.",
        "7200000",
    )
    result_url: str | None = unset(
        "http.job.result.url",
        _URL,
        None,
        "Asked once the job is done, where another answer says where its data is; "
        "${status.<path>} is a field of the last status.",
        "https://api.example.com/documents/${status.reportDocumentId}",
    )
    download_field: str | None = unset(
        "http.job.download.field",
        RecordPath(),
        None,
        "Where the URL of the data stands in the last answer, or a list of URLs; null "
        "is no data. They lead to our own origin or to http.source.allowed.hosts, and "
        "credentials go to our own only. Unset: http.source.url fetches the data, page "
        "by page.",
        "url",
    )
