"""Logs of running engines: what they say, and that records flow whatever reads them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Make
from tests.e2e.rig import PATIENCE, ROOT, TYPES, Setup
from tests.fakes.api import Api

pytestmark = pytest.mark.slow

#: A line for each of 400 requests: more than a pipe holds.
TALKING = {
    "pagination.type": "cursor",
    **TYPES["cursor"],
    "pagination.max.pages": 1000,
    "log.level": "DEBUG",
    "auth.type": "BEARER",
    "bearer.token": "t0ken-that-nobody-may-see",
}


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=400, records=50, size=10) as found:
        yield found


def once(setup: Setup, redirection: str) -> subprocess.CompletedProcess[str]:
    """`run --once --json` as a shell starts it, its stderr led elsewhere."""
    words = " ".join(setup.command("run", "--once", "--json"))
    return subprocess.run(
        ["bash", "-c", f"exec {words} {redirection}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    "redirection",
    ["2>/dev/full", "2>&-", "2> >(true)", "2> >(exec sleep 20 >/dev/null)"],
    ids=["disk full", "closed", "reader gone", "reader asleep"],
)
def test_records_arrive_whatever_becomes_of_the_log(
    make: Make, api: Api, redirection: str
) -> None:
    setup = make(f"{api.url}/cursor/0", TALKING)

    ran = once(setup, redirection)

    assert 0 == ran.returncode
    assert 20_000 == json.loads(ran.stdout)["total"]["produced"]
    assert api.all_records() == setup.values()


def test_json_is_an_object_a_line_and_holds_no_secret(make: Make, api: Api) -> None:
    setup = make(f"{api.url}/cursor/0", {**TALKING, "log.format": "json"})

    done = setup.once()

    assert 0 == done.code
    lines = [json.loads(line) for line in done.err.splitlines() if line[:1] == "{"]
    requests = [line for line in lines if line["logger"] == "http"]
    assert len(requests) >= 400
    assert {"0"} == {line["task"] for line in requests}
    assert {setup.name} == {line["connector"] for line in requests}
    assert re.match(r"GET http://\S+: 200, \d+ bytes in \d+ ms", requests[0]["message"])
    assert str(TALKING["bearer.token"]) not in done.err


def test_logfmt_names_what_it_says(make: Make, api: Api) -> None:
    keys = {**TALKING, "log.format": "logfmt", "log.level": "INFO"}
    done = make(f"{api.url}/cursor/0", keys).once()

    assert 0 == done.code
    lines = [line for line in done.err.splitlines() if line.startswith("time=")]
    assert lines
    assert all(re.search(r" level=\w+ logger=\S+ msg=", line) for line in lines)


def test_a_clean_run_at_warn_writes_no_line(make: Make, api: Api) -> None:
    keys = {**TALKING, "log.level": "WARN", "auth.type": None, "bearer.token": None}
    done = make(f"{api.url}/cursor/0", keys).once("--quiet")

    assert 0 == done.code
    # Of root it is warned, and of nothing else.
    root = os.geteuid() == 0
    lines = done.err.splitlines()
    assert [] == [line for line in lines if not root or "Running as root" not in line]
