"""The units as systemd reads them, and what installing them does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
UNITS = ("kafka-http-source.service", "kafka-http-source@.service")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not os.environ.get("CI"),
    reason="systemd is not installed",
)


def install(root: Path, *words: str, **environ: str) -> str:
    """Run scripts/install below `root`; what it printed."""
    done = subprocess.run(
        [HOME / "scripts" / "install", "--root", root, *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environ},
    )
    return done.stdout


def analyze(*words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
    )


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """Where the units of the machine were installed."""
    install(tmp_path, "--system", "--program", "/bin/true")
    units = tmp_path / "etc" / "systemd" / "system"
    template = units / "kafka-http-source@.service"
    shutil.copy(template, units / "kafka-http-source@orders.service")
    return units


@needs_systemd
@pytest.mark.parametrize(
    "unit",
    [
        "kafka-http-source.service",
        "kafka-http-source@orders.service",
        "kafka-http-source.target",
    ],
)
def test_systemd_finds_nothing_wrong(system: Path, unit: str) -> None:
    done = analyze("verify", system / unit)

    assert ("", 0) == (done.stderr, done.returncode)


@needs_systemd
@pytest.mark.parametrize(
    "unit", ["kafka-http-source.service", "kafka-http-source@orders.service"]
)
def test_the_exposure_is_at_most_2(system: Path, unit: str) -> None:
    done = analyze(
        "security", "--offline=true", "--threshold=20", "--no-pager", system / unit
    )

    assert 0 == done.returncode, done.stdout


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_a_users_units_ask_for_nothing_a_user_may_not_do(
    tmp_path: Path, unit: str
) -> None:
    home = "/home/somebody"
    install(tmp_path, "--user", "--program", "/bin/true", HOME=home, XDG_CONFIG_HOME="")
    units = tmp_path / "home" / "somebody" / ".config" / "systemd" / "user"
    text = (units / unit).read_text()

    assert "DynamicUser" not in text
    assert "network-online" not in text
    assert "WantedBy=default.target" in text
    assert "Type=notify\n" in text
    whole = units / unit.replace("@", "@orders")
    whole.write_text(text)
    done = analyze("--user", "verify", whole, XDG_RUNTIME_DIR=str(tmp_path))
    assert 0 == done.returncode, done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_says_what_the_supervisor_relies_on(system: Path, unit: str) -> None:
    lines = set((system / unit).read_text().splitlines())

    assert lines >= {
        "Type=notify",
        "KillMode=mixed",
        "WatchdogSec=90",
        "OOMPolicy=continue",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "RestartPreventExitStatus=CONFIG USAGE",
        "UMask=0077",
    }
    assert not any("@PROGRAM@" in line or "#BEGIN" in line for line in lines)
    assert any(line.startswith("ExecStart=/bin/true run ") for line in lines)


def test_the_service_keeps_what_rest_makes_and_an_instance_has_its_file(
    system: Path,
) -> None:
    one, each = ((system / unit).read_text() for unit in UNITS)

    assert "--connectors %S/kafka-http-source/connectors" in one
    assert "StateDirectory=kafka-http-source\n" in one
    assert "%E/kafka-http-source/connector.properties\n" in one
    assert "%E/kafka-http-source/%i.properties\n" in each
    assert "--connectors" not in each


def test_a_dry_run_does_nothing(tmp_path: Path) -> None:
    said = install(tmp_path, "--system", "--dry-run")

    assert f"+ write {tmp_path}/etc/systemd/system/kafka-http-source@.service" in said
    assert "-m venv" in said
    assert [] == list(tmp_path.iterdir())


def test_a_python_in_a_home_is_no_use_to_a_service(tmp_path: Path) -> None:
    """ProtectHome hides it; another one is taken, or asked for if it was named."""
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\necho /home/somebody/python\n")
    fake.chmod(0o755)
    words = [HOME / "scripts" / "install", "--system", "--dry-run", "--root", tmp_path]

    done = subprocess.run(
        words,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": str(fake)},
    )

    assert 0 == done.returncode, done.stderr
    assert "lies in a home" in done.stderr
    assert "PYTHON=" in done.stderr


def test_uninstalling_takes_the_units_and_leaves_the_rest(
    system: Path, tmp_path: Path
) -> None:
    configuration = tmp_path / "etc" / "kafka-http-source" / "connector.properties"
    configuration.write_text("name=x\n")
    drop_in = system / "kafka-http-source.service.d" / "override.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text("[Service]\n")

    said = install(tmp_path, "--system", "--uninstall")

    assert {"kafka-http-source.service.d", "kafka-http-source@orders.service"} == {
        path.name for path in system.iterdir()
    }
    assert drop_in.exists()
    assert configuration.exists()
    assert "Kept: /etc/kafka-http-source" in said


@pytest.mark.parametrize(
    "words", [["--sideways"], ["--program"], ["--program", "relative/path"]]
)
def test_wrong_use_is_64(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run(
        [HOME / "scripts" / "install", "--root", tmp_path, *words],
        check=False,
        capture_output=True,
        timeout=30,
    )

    assert 64 == done.returncode
    assert [] == list(tmp_path.iterdir())
