"""Fixtures and rules of every room."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from engine.observe.redact import REDACTOR
from tests.brokers.fixtures import apache, broker, embedded, own_apache
from tests.examples import FAST, examples
from tests.order import ordered

__all__ = ["apache", "broker", "embedded", "own_apache"]

# Examples bound a property, not the time that a busy machine takes for one.
settings.register_profile(
    "steady", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

_DIED = pytest.StashKey[bool]()

#: Rooms whose tests start processes, brokers or servers of their own.
_REAL = {"e2e", "faults", "guide", "package", "process", "scripts"}

#: Fixtures that start a broker, and names that a module starts processes by.
_BROKERS = {"apache", "broker", "embedded", "own_apache"}
_PROCESSES = {
    "Child",
    "children",
    "disk_of",
    "multiprocessing",
    "subprocess",
    "webdriver",
}

#: What Python says before it starts a process.
_STARTS = {"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fast`: what says in a minute or two whether a change is sound."""
    parser.addoption(
        "--fast", action="store_true", help="only tests without processes and brokers"
    )


def pytest_configure(config: pytest.Config) -> None:
    """With `--fast` nothing may start a process: what tries to is told so."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's job in the background hands that on to all it starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.getoption("--fast"):
        return
    # Read where tests are declared, here and in the processes that share them.
    os.environ[FAST] = "1"
    settings.register_profile("fast", max_examples=examples(settings().max_examples))
    settings.load_profile("fast")


def refuse_processes(event: str, _: tuple[object, ...]) -> None:
    """An audit hook for `--fast`: `is_fast` has to name what is refused here."""
    if event in _STARTS:
        raise AssertionError(f"a test of --fast starts a process ({event})")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """
    Seventeen thousand tests are no garbage.

    To look for it among them takes a third of the time of collecting, in each of the
    processes, and as much again and again while they run.
    """
    gc.disable()
    found = yield
    gc.freeze()
    gc.enable()
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[object]:
    """What only runs the tests starts its processes before."""
    if session.config.getoption("--fast") and not session.config.getoption(
        "numprocesses", None
    ):
        sys.addaudithook(refuse_processes)
    return (yield)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what is not for `--fast`; what is shared begins with what lasts."""
    if hasattr(config, "workerinput"):
        items[:] = ordered(items)
    if not config.getoption("--fast"):
        return
    fast = [item for item in items if is_fast(item)]
    chosen = set(fast)
    config.hook.pytest_deselected(items=[each for each in items if each not in chosen])
    items[:] = fast


def is_fast(item: pytest.Item) -> bool:
    """True for a test that starts no process and no broker."""
    if _REAL & set(item.path.parts):
        return False
    if any(item.get_closest_marker(name) for name in ("kafka", "slow")):
        return False
    if _BROKERS & set(getattr(item, "fixturenames", ())):
        return False
    if _PROCESSES & set(dir(getattr(item, "module", None))):
        return False
    return not _forks(item.path)


@cache
def _forks(path: Path) -> bool:
    """True for a file of tests that forks by itself."""
    return "os.fork(" in path.read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """One of the processes that share the tests has ended (pytest-xdist)."""
    if error:
        node.config.stash[_DIED] = True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tests that nobody has run are no failures that another try makes good."""
    if session.config.stash.get(_DIED, False):
        session.exitstatus = pytest.ExitCode.INTERRUPTED


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An engine that is told no `cache.dir` keeps nothing where a user's does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIRECTORY", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def forgets_secrets() -> Iterator[None]:
    """What one test taught to be a secret is none in the next."""
    known, pattern = set(REDACTOR._known), REDACTOR._pattern
    yield
    REDACTOR._known, REDACTOR._pattern = known, pattern
