"""
Machine: systemd as process 1 of a machine made of namespaces.

Owns its mounts (its own /run, /etc, /var and /dev; the rest is the host's), its
control groups and its end.  The network is the host's, so that what runs in
there reaches brokers and APIs on loopback.  Nothing outside is changed.

What a service may not see of the host (a home of root's, where Python may be
installed) is bound below `SEEN`, and a command is put there that runs the engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

HOME = Path(__file__).parents[2]

#: Seconds that anything may take on a busy machine.
PATIENCE = 60.0

#: Where a service finds the engine.
SEEN = "/run/engine"

VERSION = ".".join(map(str, sys.version_info[:2]))

#: The command of it.
PROGRAM = f"{SEEN}/kafka-http-source"

#: Targets that other units name; none of the host's units runs in here.
TARGETS = (
    "basic final local-fs multi-user network network-online reboot poweroff halt exit "
    "shutdown sockets sysinit timers umount"
)

INIT = """\
set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/units /run/up /run/work /run/new {seen}/python {seen}/packages {seen}/home
for target in {targets}; do
    printf '[Unit]\\nDefaultDependencies=no\\n' > /run/units/$target.target
done
for unit in journald.service journald.socket journald-dev-log.socket; do
    cp /lib/systemd/system/systemd-$unit /run/units/
done
mkdir -p /run/units/multi-user.target.wants /run/systemd/journald.conf.d
ln -s /run/units/systemd-journald.service /run/units/multi-user.target.wants/
printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nAudit=no\\nRateLimitBurst=0\\n' \\
    > /run/systemd/journald.conf.d/own.conf
mount -t overlay -o lowerdir=/etc,upperdir=/run/up,workdir=/run/work overlay /etc
mount -t tmpfs -o mode=755 tmpfs /etc/systemd/system
mount -t tmpfs -o mode=755 tmpfs /var
mkdir /var/lib /var/cache /var/tmp
for device in null zero full random urandom tty; do
    touch /run/new/$device
    mount --bind /dev/$device /run/new/$device
done
mkdir -m 1777 /run/new/shm
mkdir /run/new/pts
mount -t devpts -o newinstance,ptmxmode=666 devpts /run/new/pts
ln -s pts/ptmx /run/new/ptmx
mount --rbind /run/new /dev
mount --bind {python} {seen}/python
mount --bind {packages} {seen}/packages
mount --bind {home} {seen}/home
cat > {program} <<'END'
#!/bin/sh
export PYTHONPATH={seen}/home:{seen}/packages LD_LIBRARY_PATH={seen}/python/lib
export PYTHONDONTWRITEBYTECODE=1
exec {seen}/python/bin/python{version} -m engine "$@"
END
chmod 755 {program}
# Credentials reach a service by propagation, within the machine.
mount --make-rshared /
export container=other SYSTEMD_UNIT_PATH=/run/units:/etc/systemd/system
export SYSTEMD_GENERATOR_PATH=/nowhere: SYSTEMD_LOG_TARGET=console
exec /lib/systemd/systemd --system --unit=multi-user.target --show-status=no
"""


#: What a service of ours is given; where this fails, it is not for a fault of ours.
PROBE = f"""\
[Service]
Type=oneshot
DynamicUser=yes
StateDirectory=probe
LoadCredential=probe:{PROGRAM}
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ExecStart=/bin/sh -c 'test -r $CREDENTIALS_DIRECTORY/probe && test -w $STATE_DIRECTORY'
ExecStart={SEEN}/python/bin/python{{version}} -c pass
Environment=LD_LIBRARY_PATH={SEEN}/python/lib
"""


class NoMachine(Exception):
    """It cannot be had here: no root, no systemd, no namespaces."""


class Machine:
    """
    The machine, once it runs.

    Args:
        pid: Of its systemd, as it is seen from outside.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def call(
        self, *words: str, stdin: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        inside = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-C"]
        done = subprocess.run(
            [*inside, *words],
            check=False,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=PATIENCE,
        )
        assert done.returncode == 0 or not check, (words, done.stdout, done.stderr)
        return done

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file in it."""
        script = 'mkdir -p "$(dirname "$1")"; cat > "$1"; chmod "$2" "$1"'
        self.call("sh", "-c", script, "sh", path, mode, stdin=text)

    def systemctl(
        self, *words: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return self.call("systemctl", *words, check=check)

    def shown(self, unit: str) -> dict[str, str]:
        """The properties of a unit."""
        text = self.systemctl("show", unit).stdout
        return dict(line.partition("=")[::2] for line in text.splitlines())

    def journal(self, unit: str) -> list[dict[str, Any]]:
        """What a unit has said: the fields of each entry."""
        said = self.call("journalctl", "-u", unit, "-o", "json", "--no-pager").stdout
        return [json.loads(line) for line in said.splitlines()]

    def main(self, unit: str) -> psutil.Process:
        """The main process of a unit, as it is seen from outside."""
        inner = self.shown(unit)["MainPID"]
        for process in psutil.Process(self.pid).children(recursive=True):
            status = Path(f"/proc/{process.pid}/status").read_text()
            if f"\nNSpid:\t{process.pid}\t{inner}\n" in status:
                return process
        raise AssertionError(f"{unit} has no process {inner}")


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    """
    Boot one, and end it with all that runs in it.

    Raises: NoMachine.  Blocks: for its boot.
    """
    for tool in ("unshare", "nsenter", "systemctl", "journalctl"):
        if shutil.which(tool) is None:
            raise NoMachine(f"no {tool}")
    if os.geteuid():
        raise NoMachine("namespaces of a whole machine need root")
    groups = [*_groups()]
    script = INIT.format(
        seen=SEEN,
        program=PROGRAM,
        targets=TARGETS,
        python=sys.base_prefix,
        packages=Path(psutil.__file__).parents[1],
        home=HOME,
        version=VERSION,
    )
    inner = ["--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--mount-proc"]
    enter = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in groups)
    command = ["unshare", "--kill-child", *inner, "sh", "-c", script]
    # A file: nobody reads while it runs, and a pipe would fill up.
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed below
    outer = subprocess.Popen(
        ["sh", "-c", f'{enter}; exec "$@"', "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        found = _booted(outer)
        if found is None:
            said.seek(0)
            raise NoMachine(f"systemd does not boot: {said.read()[-2000:]}")
        found.write("/run/units/probe.service", PROBE.format(version=VERSION))
        if found.systemctl("start", "probe", check=False).returncode:
            said.seek(0)
            raise NoMachine(f"systemd cannot run a service: {said.read()[-2000:]}")
        yield found
    finally:
        # The first process of a namespace takes all of it along.
        for child in _children(outer.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGKILL)
        outer.kill()
        outer.wait()
        said.close()
        for group in groups:
            _removed(group)


def _booted(outer: subprocess.Popen[bytes]) -> Machine | None:
    """The machine once it is up, None if it does not come up."""
    deadline = time.monotonic() + PATIENCE
    while outer.poll() is None and time.monotonic() < deadline:
        for child in _children(outer.pid):
            found = Machine(child.pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.name() == "systemd" and (
                    found.systemctl("is-system-running", check=False).stdout
                    in ("running\n", "degraded\n")
                ):
                    return found
        time.sleep(0.05)
    return None


def _children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children()
    return []


def _groups() -> Iterator[Path]:
    """A control group of its own in each hierarchy that may be written."""
    name = f"machine-{os.getpid()}-{time.monotonic_ns()}"
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    for line in mounts:
        _, place, kind, options, *_ = line.split()
        if kind in ("cgroup", "cgroup2") and "rw" in options.split(","):
            try:
                (Path(place) / name).mkdir()
            except OSError as failure:
                raise NoMachine(f"no control group: {failure}") from failure
            # A set of processors has to be given before anything may enter.
            for file in ("cpuset.cpus", "cpuset.mems"):
                above = Path(place) / file
                if kind == "cgroup" and above.exists():
                    (Path(place) / name / file).write_text(above.read_text())
            yield Path(place) / name


def _removed(group: Path) -> None:
    """Remove a control group once its processes are gone."""
    deadline = time.monotonic() + PATIENCE
    while group.exists() and time.monotonic() < deadline:
        for inner, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(inner)
        time.sleep(0.02)
