"""A directory of its own for each supervisor, and none of the dead's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.supervisor import runtime
from engine.supervisor.runtime import NoRuntime, Runtime, base_of, running, sweep


def test_it_is_private_and_goes_at_the_end(tmp_path: Path) -> None:
    made = Runtime(tmp_path / "a" / "base")

    assert 0o700 == made.path.stat().st_mode & 0o777
    assert 0o700 == made.path.parent.stat().st_mode & 0o777
    assert [made.path] == running(made.path.parent)
    made.remove()
    assert [] == list((tmp_path / "a" / "base").iterdir())


def test_those_of_the_dead_are_removed_and_those_of_the_living_stay(
    tmp_path: Path,
) -> None:
    living = Runtime(tmp_path)
    dead = tmp_path / "1.0"
    dead.mkdir()
    (dead / "limiter").write_text("old")
    foreign = tmp_path / "something-else"
    foreign.mkdir()

    second = Runtime(tmp_path)

    assert not dead.exists()
    assert foreign.exists()
    assert living.path.exists()
    assert living.path != second.path
    assert {living.path, second.path} == set(running(tmp_path))
    assert [] == sweep(tmp_path)
    living.remove()
    second.remove()


def test_a_killed_supervisor_leaves_nothing_locked(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        Runtime(tmp_path)
        os._exit(0)
    os.waitpid(pid, 0)

    assert [] == running(tmp_path)
    assert [tmp_path / f"{pid}.0"] == sweep(tmp_path)


def test_a_link_of_our_own_to_a_directory_of_our_own_is_followed(
    tmp_path: Path,
) -> None:
    """systemd puts one in the place of the StateDirectory of a DynamicUser."""
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "base").symlink_to(tmp_path / "elsewhere")

    made = Runtime(tmp_path / "base")

    assert 0o700 == (tmp_path / "elsewhere").stat().st_mode & 0o777
    made.remove()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a link away")
def test_another_users_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "base").symlink_to(tmp_path / "elsewhere")
    os.lchown(tmp_path / "base", 12345, -1)

    with pytest.raises(NoRuntime, match="is a link of user 12345"):
        Runtime(tmp_path / "base")


@pytest.mark.parametrize("target", ["nowhere", "a-file"])
def test_a_link_to_no_directory_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "a-file").touch()
    (tmp_path / "base").symlink_to(tmp_path / target)

    with pytest.raises(NoRuntime, match="base"):
        Runtime(tmp_path / "base")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    os.chown(tmp_path / "base", 12345, -1)

    with pytest.raises(NoRuntime, match="belongs to user 12345"):
        Runtime(tmp_path / "base")


def test_a_directory_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir(mode=0o755)

    made = Runtime(tmp_path / "base")

    assert 0o700 == (tmp_path / "base").stat().st_mode & 0o777
    made.remove()


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, given = tmp_path / "state", tmp_path / "given"
    given.mkdir()
    everything = {"RUNTIME_DIRECTORY": f"{given}:/x", "XDG_RUNTIME_DIR": str(tmp_path)}

    assert Path("/c") == base_of(everything, configured=Path("/c"), state=state)
    assert given == base_of(everything, configured=None, state=state)
    del everything["RUNTIME_DIRECTORY"]
    assert tmp_path / runtime.NAME == base_of(everything, configured=None, state=state)
    shm = base_of({}, configured=None, state=state)
    assert Path(f"/dev/shm/kafka-http-source-{os.getuid()}") == shm

    def taken(path: Path) -> None:
        raise NoRuntime(f"{path} belongs to user 666")

    monkeypatch.setattr(runtime, "make_private", taken)
    assert state / "runtime" == base_of({}, configured=None, state=state)
