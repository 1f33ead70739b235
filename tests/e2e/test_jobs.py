"""Jobs in real runs: created once for each poll, and gone on with after a kill."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.e2e.conftest import Make
from tests.e2e.rig import Setup, until
from tests.fakes.jobs import Jobs

pytestmark = pytest.mark.slow

#: Kind of API -> its keys; `{url}` is where it stands.
KINDS: dict[str, dict[str, object]] = {
    "salesforce": {
        "http.source.url": "{url}/salesforce/jobs/${{job.id}}/results",
        "http.job.status.url": "{url}/salesforce/jobs/${{job.id}}",
        "http.job.status.field": "state",
        "pagination.type": "cursor",
        "pagination.cursor.field": "header:Sforce-Locator",
        "pagination.cursor.param": "locator",
        "pagination.limit.value": 2,
    },
    "shopify": {
        "http.source.url": "{url}/unused",
        "http.job.status.url": "{url}/shopify/graphql",
        "http.job.status.method": "POST",
        "http.job.status.body": '{{"id": "${{job.id}}"}}',
        "http.job.status.field": "state",
        "http.job.download.field": "url",
    },
}


@contextmanager
def serving() -> Iterator[Jobs]:
    """The fake behind a real server."""
    jobs = Jobs()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(size) if size else None
            status, headers, body = jobs.answer(self.command, self.path, sent)
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        jobs.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield jobs
        server.shutdown()


def setup_of(make: Make, jobs: Jobs, kind: str) -> Setup:
    keys = {
        name: value.format(url=jobs.url) if isinstance(value, str) else value
        for name, value in KINDS[kind].items()
    }
    keys["http.job.create.url"] = f"{jobs.url}/{kind}/jobs"
    keys["http.job.create.body"] = '{"query": "SELECT Id FROM Account"}'
    keys["http.job.interval.ms"] = 50
    return make(str(keys["http.source.url"]), keys)


def ids(setup: Setup) -> list[int]:
    return [json.loads(value)["id"] for value in setup.values()]


@pytest.mark.parametrize("kind", KINDS)
def test_each_run_creates_a_job_and_brings_what_it_made(make: Make, kind: str) -> None:
    with serving() as jobs:
        jobs.rows = [{"id": number} for number in range(5)]
        setup = setup_of(make, jobs, kind)
        assert setup.call("check").code == 0
        done = setup.once()
        assert done.code == 0, done.err
        assert ids(setup) == list(range(5))
        assert jobs.created == ["j1"]
        assert jobs.bodies == [{"query": "SELECT Id FROM Account"}]
        jobs.rows.append({"id": 5})
        assert setup.once().code == 0
        assert jobs.created == ["j1", "j2"]
        assert sorted(set(ids(setup))) == list(range(6))


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_for_each_window_also_over_a_kill(make: Make, kind: str) -> None:
    with serving() as jobs:
        jobs.rows = [{"id": number} for number in range(60)]
        jobs.looks = 1_000_000
        setup = setup_of(make, jobs, kind)
        setup.write(
            **{
                "http.job.create.body": '{"from": ${window.start}, "to": ${window.end}}',
                "http.source.window.size.seconds": 10,
                "http.source.window.start": "1970-01-01T00:00:00Z",
                "http.source.window.end": "1970-01-01T00:01:00Z",
                "http.source.window.format": "EPOCH_SECONDS",
                "tasks.max": 2,
            }
        )
        assert setup.call("check").code == 0
        with setup.running() as running:
            until(lambda: len(jobs.asked) > 20, "looks at the status")
            for process in [*running.children(), running.process]:
                process.kill()
        got = setup.call("offsets", "get", "--json").document["offsets"]
        looks = [each["next"] for each in got]
        assert 2 == len(looks)
        assert all("jobs" in each or "graphql" in each for each in looks), looks
        jobs.looks = 0
        jobs._left = dict.fromkeys(jobs._left, 0)
        done = setup.once()
        assert 0 == done.code, done.err
        assert list(range(60)) == sorted(ids(setup))
        assert 6 == len(jobs.created)
        assert {(at, at + 10) for at in range(0, 60, 10)} == {
            (body["from"], body["to"]) for body in jobs.bodies
        }


def test_a_job_for_each_record_of_a_parent(make: Make) -> None:
    with serving() as jobs:
        jobs.rows = [{"id": number} for number in range(30)]
        setup = setup_of(make, jobs, "salesforce")
        keys = {
            f"api2.{key}": value
            for key, value in setup.keys.items()
            if key.startswith(("http.job.", "pagination.", "http.source.url"))
        }
        keys |= dict.fromkeys([name.removeprefix("api2.") for name in keys])
        setup.write(
            **{
                **keys,
                "kafka.topic": None,
                "api1.api.name": "tens",
                "api1.http.source.url": f"{jobs.url}/tens",
                "api2.api.name": "exports",
                "api2.kafka.topic": setup.topic,
                "api2.http.job.create.body": '{"from": ${parent.id}, "to": ${parent.to}}',
                "api2.api.chaining.parent": "tens",
                "api2.api.chaining.extract.field": "id",
            }
        )
        tens = [{"id": at, "to": at + 10} for at in (0, 10, 20)]
        jobs.lists["/tens"] = tens
        jobs.looks = 1_000_000
        with setup.running() as running:
            until(lambda: len(jobs.created) == 3, "a job for each")
            asked = len(jobs.asked)
            until(lambda: len(jobs.asked) > asked + 20, "looks at the status")
            for process in [*running.children(), running.process]:
                process.kill()
        jobs.looks = 0
        jobs._left = dict.fromkeys(jobs._left, 0)
        done = setup.once()
        assert 0 == done.code, done.err
        assert list(range(30)) == sorted(ids(setup))
        assert 3 == len(jobs.created)


def test_who_is_killed_goes_on_with_the_job(make: Make) -> None:
    with serving() as jobs:
        jobs.rows = [{"id": number} for number in range(5)]
        jobs.looks = 1_000_000
        setup = setup_of(make, jobs, "salesforce")
        with setup.running() as running:
            until(lambda: len(jobs.asked) > 20, "looks at the status")
            for process in [*running.children(), running.process]:
                process.kill()
        shown = json.loads(setup.call("offsets", "get", "--json").out)
        [stored] = shown["offsets"]
        assert json.loads(stored["offset"]["job"]) == {"id": "j1"}
        assert "secret" not in json.dumps(shown)
        jobs._left["j1"] = 1
        done = setup.once()
        assert done.code == 0, done.err
        assert jobs.created == ["j1"]
        assert ids(setup) == list(range(5))


def test_a_job_that_fails_ends_the_run_by_name(make: Make) -> None:
    with serving() as jobs:
        jobs.ends["j1"] = "Failed"
        setup = setup_of(make, jobs, "salesforce")
        done = setup.once()
        assert done.code == 65
        assert "the job has failed" in done.err
        assert setup.once().code == 0
        assert jobs.created == ["j1", "j2"]
