"""The unit under a real systemd, in namespaces and over a copy of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.test_systemd import HOME, install

UNIT = "kafka-http-source.service"

#: What systemd starts in the box writes to an overlay; what would reach through
#: to the kernel is left out.
BOX = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
cp -a "$2/." "$1/root/"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount --rbind /sys sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount --rbind /dev dev
rm -rf etc/systemd/system/*.wants
for unit in systemd-sysctl systemd-modules-load systemd-binfmt systemd-udevd \\
    systemd-udev-trigger systemd-random-seed systemd-update-utmp; do
    ln -sf /dev/null "etc/systemd/system/$unit.service"
done
for unit in dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount \\
    proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
# A chroot would forbid user namespaces.
mkdir .old
pivot_root . .old
cd /
umount -l .old
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    /lib/systemd/systemd --system --unit=basic.target --show-status=0
"""

NAMESPACES = ("--pid", "--mount", "--uts", "--ipc", "--cgroup")


def interpreter() -> str | None:
    """A Python that a user without a home can run, of our version; or None."""
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        if candidate.startswith(("/root/", "/home/")) or not os.path.exists(candidate):
            continue
        said = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[:2])"],
            check=False,
            capture_output=True,
            text=True,
        ).stdout.strip()
        if said == str(tuple(sys.version_info[:2])):
            return candidate
    return None


class Box:
    """
    A systemd of its own.

    Attributes:
        pid: Its process 1, seen from outside.
    """

    def __init__(self, tmp: Path, python: str) -> None:
        files, mount = tmp / "files", tmp / "box"
        mount.mkdir()
        program = files / "opt" / "kafka-http-source" / "bin" / "kafka-http-source"
        program.parent.mkdir(parents=True)
        packages = sysconfig.get_paths()["purelib"]
        program.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={HOME}:{packages}\n"
            f'exec {python} -m tests.process.stand_in "$@"\n'
        )
        program.chmod(0o755)
        install(
            files, "--system", "--program", "/opt/kafka-http-source/bin/" + UNIT[:-8]
        )
        quick = files / "etc" / "systemd" / "system" / f"{UNIT}.d" / "quick.conf"
        quick.parent.mkdir(exist_ok=True)
        quick.write_text("[Service]\nWatchdogSec=3\nRestartSec=0\n")
        self._unshare = subprocess.Popen(
            ["unshare", *NAMESPACES, "--fork", "--kill-child"]
            + ["sh", "-c", BOX, "box", str(mount), str(files)],
            stdin=subprocess.DEVNULL,
            stdout=(tmp / "console").open("wb"),
            stderr=subprocess.STDOUT,
        )
        self.pid = 0
        self._console = tmp / "console"
        self.until(self._is_up, "systemd is up")

    def run(self, *words: str, text: str | None = None) -> str:
        """Run a command inside; what it printed."""
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), "-p", "-m", "-u", "-i", "-C"]
            + list(words),
            check=False,
            capture_output=True,
            text=True,
            timeout=20,
            input=text,
        ).stdout.strip()

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.run("systemctl", "show", "-P", name, UNIT)

    def configure(self, content: str) -> None:
        """Write the configuration."""
        path = "/etc/kafka-http-source/connector.properties"
        self.run("tee", path, text=content)
        self.run("chmod", "644", path)

    def children(self) -> list[psutil.Process]:
        """The tasks, seen from outside."""
        supervisor = self.supervisor()
        return supervisor.children() if supervisor else []

    def supervisor(self) -> psutil.Process | None:
        """The unit's main process, seen from outside."""
        for process in psutil.Process(self.pid).children():
            try:
                words = " ".join(process.cmdline())
                if "stand_in" in words or words.startswith("kafka-http-source"):
                    return process
            except psutil.Error:
                continue
        return None

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 25
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{self._words()}"
            time.sleep(0.05)

    def end(self) -> None:
        """All of it goes with its process 1."""
        self._unshare.kill()
        self._unshare.wait()
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _is_up(self) -> bool:
        if self._unshare.poll() is not None:
            pytest.skip(f"no namespaces here: {self._console.read_text()[-300:]}")
        for child in psutil.Process(self._unshare.pid).children():
            if "/systemd" in " ".join(child.cmdline()):
                self.pid = child.pid
                return self.run("systemctl", "is-system-running") == "running"
        return False

    def _words(self) -> str:
        log = self.run("journalctl", "--no-pager", "-n", "40") if self.pid else ""
        return self._console.read_text() + log


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    python = interpreter()
    missing = [
        word for word in ("unshare", "nsenter", "systemctl") if not shutil.which(word)
    ]
    if os.getuid() != 0 or missing or python is None:
        pytest.skip("needs root, namespaces, systemd and a Python for everybody")
    made = Box(tmp_path_factory.mktemp("systemd"), python)
    yield made
    made.end()


@pytest.mark.slow
def test_a_life_under_systemd(box: Box) -> None:
    """One test, since each part starts from where the one before ended."""
    # A missing configuration is no start at all.
    box.run("systemctl", "start", UNIT)
    assert "assert" == box.show("Result") or "inactive" == box.show("ActiveState")

    # A wrong one ends with 78, once: the unit does not try again.
    box.configure("taks=2\n")
    box.run("systemctl", "start", UNIT)
    box.until(lambda: box.show("ActiveState") == "failed", "it has failed")
    assert "78" == box.show("ExecMainStatus")
    assert "0" == box.show("NRestarts")

    # `start` returns when every task works, under all of the hardening.
    box.configure("tasks=2\n")
    box.run("systemctl", "reset-failed", UNIT)
    box.run("systemctl", "start", UNIT)
    assert "active" == box.show("ActiveState")
    box.until(lambda: "2 tasks" in box.show("StatusText"), "it tells its status")
    tasks = box.children()
    assert 2 == len(tasks)
    assert 0 not in {uid for task in tasks for uid in task.uids()}

    # A killed task is the supervisor's affair.
    tasks[0].kill()
    box.until(
        lambda: {t.pid for t in box.children()} - {t.pid for t in tasks}, "another task"
    )
    assert "0" == box.show("NRestarts")

    # A reload is taken, a wrong one refused.
    box.configure("tasks=3\n")
    box.run("systemctl", "reload", UNIT)
    box.until(lambda: len(box.children()) == 3, "three tasks")
    box.configure("nonsense\n")
    box.run("systemctl", "reload", UNIT)
    refused = ["journalctl", "-u", UNIT, "PRIORITY=3", "-o", "cat", "--no-pager"]
    box.until(lambda: "refused" in box.run(*refused), "it says so")
    assert 3 == len(box.children())
    assert "active" == box.show("ActiveState")
    box.configure("tasks=3\n")

    # The journal has fields of ours.
    assert "orders" in box.run(
        "journalctl", "LOGGER=engine.supervisor.loop", "-o", "cat", "--no-pager"
    )

    # A supervisor that hangs is replaced, and nothing of it is left.
    supervisor = box.supervisor()
    assert supervisor is not None
    before = box.children()
    supervisor.suspend()
    box.until(lambda: box.show("NRestarts") == "1", "the watchdog bites")
    box.until(lambda: len(box.children()) == 3, "it is back")
    assert not any(task.is_running() for task in before)

    # A stop drains, is a success, and leaves no file behind.
    began = time.monotonic()
    box.run("systemctl", "stop", UNIT)
    assert time.monotonic() - began < 10
    assert ("inactive", "success") == (box.show("ActiveState"), box.show("Result"))
    assert "0" == box.show("ExecMainStatus")
    assert "" == box.run("sh", "-c", "ls /run/kafka-http-source 2>/dev/null")
