"""A machine that has no room, no output, or sends signals: the engine goes on or says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.disks import disk_of, mount
from tests.e2e.conftest import Make
from tests.e2e.rig import PATIENCE, Setup, until
from tests.fakes.api import Api

pytestmark = pytest.mark.slow


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=8, records=50, size=120) as found:
        yield found


PAGED = {"pagination.type": "page", "pagination.limit.value": 50}


@pytest.mark.parametrize("kib", [8, 32, 64, 128, 256, 512])
def test_a_runtime_directory_that_is_full_ends_nothing(
    kib: int, make: Make, api: Api, tmp_path: Path
) -> None:
    with disk_of(tmp_path / "small", kib) as place:
        keys = {"runtime.dir": place, "tasks.max": 2, **PAGED}
        setup = make(f"{api.url}/page/0", keys)
        done = setup.once()

    assert 0 == done.code, done.err
    assert 400 == len(setup.values())
    assert "SIGBUS" not in done.err
    assert "Traceback" not in done.err


def test_a_runtime_directory_without_any_room_is_told(
    make: Make, api: Api, tmp_path: Path
) -> None:
    with disk_of(tmp_path / "small", 16) as place:
        with contextlib.suppress(OSError), (place / "filler").open("wb") as filler:
            filler.write(bytes(1 << 20))
        setup = make(f"{api.url}/page/0", {"runtime.dir": place, **PAGED})
        done = setup.once()

    assert "Traceback" not in done.err
    if done.code:
        assert 77 == done.code
        assert f"runtime.dir: {place}" in done.err
    else:
        assert 400 == len(setup.values())


#: A key that asks for a directory.
PLACES = ("runtime.dir", "state.dir", "offset.storage.file.filename")


@pytest.mark.parametrize("key", PLACES)
@pytest.mark.parametrize("kind", ["below a file", "a file", "read-only", "/proc"])
def test_a_directory_that_cannot_be_had_names_its_key(
    key: str, kind: str, make: Make, api: Api, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with contextlib.ExitStack() as stack:
        if kind == "read-only":
            place = stack.enter_context(disk_of(tmp_path / "ro", 64)) / "x"
            assert not mount("-o", "remount,ro", tmp_path / "ro")
        else:
            place = {
                "below a file": tmp_path / "file" / "x",
                "a file": tmp_path / "file",
                "/proc": Path("/proc/x"),
            }[kind]
        setup = make(f"{api.url}/page/0", {key: place, **PAGED})
        done = setup.once()

    # A file is seen by `check` already.
    known = kind == "a file" and key != "offset.storage.file.filename"
    assert (78 if known else 77) == done.code, done.err
    assert re.search(rf"{key}(: |=.){place}", done.err)
    assert "Traceback" not in done.err


def test_a_cache_that_cannot_be_kept_ends_nothing(
    make: Make, api: Api, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    keys = {"cache.dir": tmp_path / "file" / "x", "cache.enabled": "true", **PAGED}
    setup = make(f"{api.url}/page/0", keys)
    done = setup.once()

    assert 0 == done.code, done.err
    assert f"cache.dir: {tmp_path / 'file' / 'x'}" in done.err
    assert 400 == len(setup.values())


#: What nobody's standard output may be, and the codes of a good and a bad file.
OUTPUTS = {
    "full": (">/dev/full", 74),
    "closed": (">&-", 74),
    "read only": ("1</dev/null", 74),
    "all closed": ("<&- >&- 2>&-", 74),
    "gone": ("| true", 0),
}


def shell(setup: Setup, words: str, output: str) -> tuple[int, str]:
    command = " ".join(setup.command(*words.split()))
    if output.startswith("|"):
        command = f"set -o pipefail; {command} {output}"
    else:
        command = f"{command} {output}"
    done = subprocess.run(
        ["bash", "-c", command],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=Path(__file__).parents[2],
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("words", ["check", "check --json", "config show"])
def test_a_lost_output_is_no_bug(kind: str, words: str, make: Make, api: Api) -> None:
    output, code = OUTPUTS[kind]
    setup = make(f"{api.url}/page/0", PAGED)

    found, said = shell(setup, words, output)

    assert code == found, said
    assert "Traceback" not in said
    assert "a bug" not in said
    if code and kind != "all closed":
        assert "standard output: " in said


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_lost_output_changes_no_verdict(kind: str, make: Make, api: Api) -> None:
    setup = make(f"{api.url}/page/0", {"kafka.key": "${", **PAGED})

    assert 78 == shell(setup, "check", OUTPUTS[kind][0])[0]


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_run_whose_output_is_lost_delivers(kind: str, make: Make, api: Api) -> None:
    output, code = OUTPUTS[kind]
    setup = make(f"{api.url}/page/0", PAGED)
    document = make(f"{api.url}/page/0", PAGED)

    found, said = shell(setup, "run --once", output)
    asked, _ = shell(document, "run --once --json", output)

    assert 0 == found, said
    assert code == asked
    assert 400 == len(setup.values()) == len(document.values())


#: Every signal that is no request of ours and no fault of the process's own.
HARMLESS = sorted(
    number
    for number in signal.valid_signals()
    if number
    not in {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)


def test_no_signal_ends_a_process_without_a_word(make: Make, api: Api) -> None:
    setup = make(
        f"{api.url}/page/0",
        {
            "listeners": "http://127.0.0.1:0",
            "http.source.poll.interval.ms": 500,
            **PAGED,
        },
    )
    with setup.running() as engine:
        until(lambda: setup.arrived() >= 400, "the first poll")
        before = {engine.pid, *(each.pid for each in engine.children())}
        assert 3 <= len(before)
        for pid in before:
            for number in HARMLESS:
                os.kill(pid, number)
        dumps = until(
            lambda: engine.err.count("Current thread") >= 2 * len(before),
            "stacks of each process for each of two signals",
        )
        asked = len(api.targets())
        until(lambda: len(api.targets()) > asked, "a further poll")
        after = {engine.pid, *(each.pid for each in engine.children())}
        limits = [psutil.Process(pid).rlimit(psutil.RLIMIT_CORE) for pid in after]
        done = engine.end()

    assert dumps
    assert before == after
    assert {(0, 0)} == set(limits)
    assert 0 == done.code, done.err


@pytest.mark.parametrize("limit", [64 << 10, 16 << 10, 1 << 10])
def test_a_limit_of_file_sizes_ends_in_words(limit: int, make: Make, api: Api) -> None:
    setup = make(f"{api.url}/page/0", PAGED)
    command = " ".join(setup.command("run", "--once", "--json"))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f {limit >> 10}; exec {command}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=Path(__file__).parents[2],
    )

    assert 0 == done.returncode, done.stderr
    assert 400 == len(setup.values())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place", ["state.dir", "TMPDIR"])
def test_a_disk_that_is_full_keeps_a_large_page_waiting_and_says_where(
    place: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: dict[str, object] = {
        "http.source.poll.interval.ms": 200,
        "kafka.key": "${record.id}",
        "retry.backoff.ms": 50,
        "max.retries": 1,
    }
    with (
        disk_of(tmp_path / "small", 24 << 10) as disk,
        Api(pages=1, records=9_000, size=1_000) as api,
    ):
        if place == "state.dir":
            keys["state.dir"] = disk
        else:
            monkeypatch.setenv("TMPDIR", str(disk))
        setup = make(f"{api.url}/none/0", keys)
        filler = disk / "filler"
        filler.write_bytes(bytes(20 << 20))
        with setup.running() as engine:
            until(lambda: "No space left" in engine.err, "the disk is full")
            assert not setup.values()
            filler.unlink()
            until(lambda: len(setup.values()) >= 9_000, "the page in the topic")
            said = engine.err

    assert f"a large page cannot be kept in {disk}: No space left on device" in said
    assert "bug" not in said
    assert "FAILED" not in said


def test_a_disk_that_is_full_keeps_the_keys_of_a_snapshot_waiting_and_says_where(
    make: Make, tmp_path: Path
) -> None:
    keys: dict[str, object] = {
        "http.source.poll.interval.ms": 200,
        "http.offset.mode": "SNAPSHOT_DIFF",
        "kafka.key": "${record.id}" + "k" * 1_000,
        "retry.backoff.ms": 50,
        "max.retries": 1,
    }
    with (
        disk_of(tmp_path / "small", 8 << 10) as disk,
        Api(pages=4, records=500, size=100) as api,
    ):
        setup = make(f"{api.url}/page/0", {**PAGED, **keys, "state.dir": disk})
        filler = disk / "filler"
        filler.write_bytes(bytes(7 << 20))
        with setup.running() as engine:
            until(lambda: "No space left" in engine.err, "the disk is full")
            filler.unlink()
            until(lambda: len(set(setup.values())) >= 2_000, "the pages in the topic")
            said = engine.err

    assert f"the keys of a snapshot cannot be kept in {disk}: No space left" in said
    assert "bug" not in said
    assert "FAILED" not in said
