"""
Benched: the engine of a bench.

    python -m engine.cli.bench.benched JOB

Owns what is exchanged in a configuration so that it neither asks nor tells
anybody else: the API is the stand-in, the brokers are a trial's, whatever is
written lies in one folder.  All else, the path of a page above all, is as it
is configured.

Path: ``bench`` starts it -> here -> ``run``
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import structs

from engine.cli.bench.stand_in import Job, prefix
from engine.cli.run import serve
from engine.cli.wanted import refuse_unbuilt
from engine.config import Api, Connector, Loaded
from engine.config.sections.delivery import StateConfig
from engine.config.sections.request import RequestConfig
from engine.errors import EngineError
from engine.supervisor import signals

#: Who is asked, and how: of no meaning to the stand-in.
ASKING: Mapping[str, object] = {
    "auth.type": "NONE",
    "http.api.base.url": None,
    "http.auth.class": None,
    "http.client.http2.enabled": False,
    "http.proxy.host": None,
    "http.source.endpoints": None,
}

#: When it is asked: as fast as it goes, and each page as if it were new: the
#: stand-in tells the same again and again, which the cache would save.
PACE: Mapping[str, object] = {
    "cache.enabled": False,
    "http.source.poll.interval.ms": 0,
    "http.source.poll.schedule": None,
    "rate.limit.enabled": False,
}

#: Who is told, and how.
TELLING: Mapping[str, object] = {
    "security.protocol": "PLAINTEXT",
    "producer.security.protocol": "PLAINTEXT",
    "producer.override.security.protocol": "PLAINTEXT",
    "admin.override.security.protocol": "PLAINTEXT",
    "sasl.mechanism": None,
    "offset.storage.replication.factor": 1,
    "topic.creation.default.replication.factor": 1,
    "topic.creation.enable": True,
    "http.source.url.pattern": None,
}


def exchanged(loaded: Loaded, job: Job) -> Loaded:
    """The configuration as it is benched."""
    folder = Path(job.folder)
    process = {
        "admin.token": None,
        "cache.dir": folder / "cache",
        "group.id": None,
        "listeners": ("http://127.0.0.1:0",),
        "log.format": "text",
        "log.level": "WARN",
        "runtime.dir": folder / "run",
        "state.dir": folder / "state",
    }
    return structs.replace(
        loaded,
        connectors=tuple(
            _connector(number, connector, job)
            for number, connector in enumerate(loaded.connectors)
        ),
        process=loaded.process.replaced(process),
    )


def _connector(number: int, connector: Connector, job: Job) -> Connector:
    changes = {**TELLING, "bootstrap.servers": job.bootstrap or ("embedded",)}
    if connector.values.of(StateConfig).file is not None:
        file = Path(job.folder) / f"offsets-{number}"
        changes["offset.storage.file.filename"] = str(file)
    return structs.replace(
        connector,
        values=connector.values.replaced(changes).replaced({} if job.paced else PACE),
        apis=tuple(_api(number, api, job) for api in connector.apis),
    )


def _api(number: int, api: Api, job: Job) -> Api:
    changes = dict(ASKING)
    url = api.values.of(RequestConfig).url
    if url is not None:
        changes["http.source.url"] = job.url + prefix(number, api) + _path(url)
    changed = api.values.replaced(changes).replaced({} if job.paced else PACE)
    return structs.replace(api, values=changed)


def _path(url: str) -> str:
    """Path and query of a URL template, its expressions as they are."""
    bare = url.partition("${")[0]
    if "://" not in bare:
        return "/" + url.lstrip("/")
    origin = f"{urlsplit(bare).scheme}://{urlsplit(bare).netloc}"
    return "/" + url[len(origin) :].lstrip("/")


def main() -> int:
    """Run until ended by a signal; the exit code as that of `run`."""
    signals.block()
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)

    def again() -> Loaded:
        return exchanged(job.load(), job)

    try:
        loaded = again()
        refuse_unbuilt(loaded)
        return serve(loaded, again, quiet=True)
    except EngineError as failure:
        print(failure, file=sys.stderr)
        return failure.code


if __name__ == "__main__":
    sys.exit(main())
