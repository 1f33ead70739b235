"""
Jobs: the keys `http.job.*` made into what the source asks by.

Owns their translation and nothing that runs.

Path: `build.sources` -> here -> `source.jobs`
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo

from engine.config import Api, Connector
from engine.config.sections.jobs import JobsConfig
from engine.config.sections.request import RequestConfig
from engine.records import Shard
from engine.seams import Fetch
from engine.source.decode.decoder import Decode, compile_decoder
from engine.source.jobs import JobKeys, JobSteps
from engine.source.paging.named import TemplateKeys
from engine.source.paging.pager import Paging
from engine.source.paging.request import Shape
from engine.task.build.auth import secret_params
from engine.task.build.http import errors_of, http_options, url_of


def keys_of(api: Api) -> JobKeys | None:
    """The keys of an api's jobs, None: it has none."""
    jobs = api.values.of(JobsConfig)
    if jobs.create_url is None:
        return None
    return JobKeys(
        interval=jobs.interval,
        timeout=jobs.timeout,
        state=jobs.status_field,
        done=frozenset(each.lower() for each in jobs.done),
        failed=frozenset(each.lower() for each in jobs.failed),
        files=jobs.download_field,
    )


def job_decoder(api: Api) -> Decode:
    """Splits what the requests of a job are answered with."""
    jobs = api.values.of(JobsConfig)
    places = (jobs.status_field, jobs.download_field)
    return compile_decoder(
        wanted=tuple(place for place in places if place is not None),
        errors=errors_of(api.values),
        empty_body=True,
    )


def steps_of(
    connector: Connector,
    api: Api,
    shard: Shard,
    *,
    pages: Shape,
    ask: Fetch,
    look: Fetch,
    decode: Decode,
    zone: tzinfo,
    task: int,
) -> JobSteps:
    """
    The requests of an api's jobs; arguments as for `JobSteps`.

    Args:
        zone: Of dates in templates.
        task: The task's number.
    """
    values = api.values
    jobs = values.of(JobsConfig)

    def shape(
        step: str, url: str, method: str = "GET", body: str | None = None
    ) -> Shape:
        return Shape(
            keys=TemplateKeys(url=f"http.job.{step}.url", body=f"http.job.{step}.body"),
            method=method,
            url=url_of(values, url),
            paging=Paging(type="none"),
            headers=tuple(values.of(RequestConfig).headers or ()),
            body=body,
            omit=values.of(RequestConfig).body_null == "OMIT",
            constants={
                "connector": connector.name,
                "api": api.name,
                "entityName": shard.entity,
                "task": task,
            },
            zone=zone,
        )

    make: Callable[..., Shape] = shape
    return JobSteps(
        create=make(
            "create", str(jobs.create_url), jobs.create_method, jobs.create_body
        ),
        status=None
        if jobs.status_url is None
        else make("status", jobs.status_url, jobs.status_method, jobs.status_body),
        result=None if jobs.result_url is None else make("result", jobs.result_url),
        pages=pages,
        ask=ask,
        look=look,
        decode=decode,
        follow=http_options(api).borders.follow,
        cut=secret_params(values),
    )
