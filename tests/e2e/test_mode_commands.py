"""`check`, `preview`, `plan` and `explain` on a file of each mode."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.cli.main import main
from tests.e2e.foreign import Rows, dated
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow

#: Records of each poll's first page.
COUNT = 7


class Mode(NamedTuple):
    """A mode's keys, words that `plan` has to say of it, and where its records lie."""

    keys: Mapping[str, str]
    planned: str
    data: str = "items"


BOOKMARK = {"http.offset.json.pointer": "/at"}

MODES: dict[str, Mode] = {
    "FULL": Mode({}, "calls/day"),
    "INCREMENTAL": Mode(
        {
            **BOOKMARK,
            "http.offset.mode": "INCREMENTAL",
            "http.source.query.params": "since=${offset}",
        },
        "only what is new",
    ),
    "SNAPSHOT_PAGINATION": Mode(
        {**BOOKMARK, "http.offset.mode": "SNAPSHOT_PAGINATION"},
        "what is new or changed is produced",
    ),
    "SNAPSHOT_DIFF": Mode(
        {"http.offset.mode": "SNAPSHOT_DIFF"}, "what is new or changed is produced"
    ),
    "ODATA_PAGINATION": Mode(
        {"http.offset.mode": "ODATA_PAGINATION"}, "only what is new", "value"
    ),
    "next field": Mode(
        {
            "http.offset.mode": "INCREMENTAL",
            "http.offset.next.field": "token",
            "http.offset.next.param": "after",
        },
        "only what is new",
    ),
    "windows": Mode(
        {
            "http.source.query.params": "from=${window.start}&to=${window.end}",
            "http.source.window.size.seconds": "600",
            "http.source.window.start": "2026-01-01T00:00:00Z",
            "http.source.window.format": "EPOCH_SECONDS",
        },
        "window by window, 144 a day",
    ),
    "jobs": Mode(
        {
            "http.job.create.url": "URL/made",
            "http.job.create.body": "{}",
            "http.job.status.url": "URL/made/${job.id}",
            "http.job.status.field": "state",
            "http.job.status.done.values": "done",
            "http.job.interval.ms": "50",
        },
        "each poll makes a job",
    ),
}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    rows = Rows()
    rows.put(*range(1, COUNT + 1))

    def answer(asked: Asked) -> Answer:
        found = rows.by_id()
        told = {"items": found, "value": found, "token": "t1"}
        return dated((200, [], json.dumps(told).encode()))

    def job(asked: Asked) -> Answer:
        return 200, [], b'{"id": "j1", "state": "done"}'

    with Api() as found:
        found.route("/list", answer)
        found.route("/made", job)
        found.route("/made/j1", job)
        yield found


@pytest.fixture
def file(api: Api, tmp_path: Path) -> Callable[[str], str]:
    """Writes the file of a mode."""

    def write(name: str) -> str:
        mode = MODES[name]
        keys = {
            "name": "things",
            "http.source.url": f"{api.url}/list",
            "http.response.data.json.pointer": mode.data,
            "kafka.topic": "things",
            "kafka.key": "${record.id}",
            "bootstrap.servers": "127.0.0.1:9",
            "state.dir": str(tmp_path / "state"),
            **mode.keys,
        }
        path = tmp_path / "things.properties"
        lines = [f"{k}={v.replace('URL/', f'{api.url}/')}\n" for k, v in keys.items()]
        path.write_text("".join(lines))
        return str(path)

    return write


@pytest.mark.parametrize("name", MODES)
def test_each_command_has_the_mode(
    name: str,
    file: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = file(name)

    assert main(["check", path]) == 0
    assert "no errors" in capsys.readouterr().out

    assert main(["preview", "--records", "3", path]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [1, 2, 3] == [json.loads(line)["value"]["id"] for line in shown]

    assert main(["plan", "--pages", "2", path]) == 0
    assert MODES[name].planned in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("http.offset.mode", ("INCREMENTAL", "SNAPSHOT_DIFF", "ODATA_PAGINATION")),
        ("http.offset.next.field", ("next",)),
        ("http.source.window.size.seconds", ("seconds",)),
        ("http.snapshot.max.fall", ("0.5",)),
        ("http.job.create.url", ("job",)),
        ("http.offset.lookback", ("INCREMENTAL",)),
    ],
)
def test_explain_says_what_a_mode_is(
    key: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", key]) == 0
    said = capsys.readouterr().out
    assert not [word for word in words if word not in said], said
