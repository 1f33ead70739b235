"""The package: what a wheel brings along, built twice alike, beside other packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import DISTRIBUTION, __version__
from engine.cli.main import SHORT_HELP, main

ROOT = Path(__file__).parent.parent.parent
LAUNCHER = ROOT / "scripts" / "kafka-http-source"

pytestmark = pytest.mark.slow


def build(source: Path, target: Path) -> tuple[Path, Path]:
    """An sdist, and a wheel out of it, as `python -m build` makes them."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "-o", target, source],
        check=True,
        capture_output=True,
    )
    [sdist], [wheel] = target.glob("*.tar.gz"), target.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows: a build leaves files beside it."""
    copy = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def built(
    source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[Path, Path], tuple[Path, Path]]:
    """Two builds of one tree."""
    first, second = (build(source, tmp_path_factory.mktemp("dist")) for _ in range(2))
    return first, second


def test_two_builds_are_equal_byte_for_byte(
    built: tuple[tuple[Path, Path], tuple[Path, Path]],
) -> None:
    for one, other in zip(*built, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_both_archives_hold_the_manual_the_units_and_the_dashboards(
    built: tuple[tuple[Path, Path], tuple[Path, Path]],
) -> None:
    sdist, wheel = built[0]
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
        metadata = archive.read(
            f"{DISTRIBUTION.replace('-', '_')}-{__version__}.dist-info/METADATA"
        ).decode()
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}

    wanted = [
        path.relative_to(ROOT).as_posix()
        for folder in ("conf", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    ]
    share = (
        f"{DISTRIBUTION.replace('-', '_')}-{__version__}.data/data/share/{DISTRIBUTION}"
    )
    assert wanted
    for name in wanted:
        assert name in in_sdist
        assert f"{share}/{name}" in in_wheel
    assert {"LICENSE", "scripts/build_backend.py"} <= in_sdist
    assert "engine/py.typed" in in_wheel
    for field in ("Author", "License", "Keywords", "Project-URL", "Requires-Python"):
        assert f"\n{field}: " in metadata
    assert not [name for name in in_wheel if name.startswith("tests/")]


@pytest.fixture(scope="module")
def alone(
    built: tuple[tuple[Path, Path], tuple[Path, Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """An environment that holds the wheel and what it needs, and nothing else."""
    place = tmp_path_factory.mktemp("alone")
    venv = [sys.executable, "-m", "venv", "--without-pip", place]
    subprocess.run(venv, check=True)
    subprocess.run(
        [
            # The pip that is here, at work there: to unpack it takes seconds.
            *(sys.executable, "-m", "pip", "--python", place),
            "install",
            "-q",
            "--disable-pip-version-check",
            built[0][1],
        ],
        check=True,
        # What is started once is not worth compiling.
        env={**os.environ, "PIP_NO_COMPILE": "1"},
    )
    yield place


def run(place: Path, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: PLW1510 - judged by who asks
        [place / "bin" / DISTRIBUTION, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=place,
        env={**os.environ, **more},
    )


@pytest.mark.timeout(600)
def test_a_wheel_alone_shows_checks_and_lays_out_its_examples(
    alone: Path, tmp_path: Path
) -> None:
    assert f"{DISTRIBUTION} {__version__}\n" == run(alone, "--version").stdout
    assert SHORT_HELP.strip() == run(alone).stdout.strip()
    laid = run(alone, "examples", tmp_path / "laid")
    assert 0 == laid.returncode, laid.stderr
    conf = tmp_path / "laid" / "conf"
    assert os.access(tmp_path / "laid" / "scripts" / "install", os.X_OK)

    kafka = "bootstrap.servers=localhost:9092"
    checked = run(alone, "check", conf / "page-numbered.properties", "--set", kafka)
    assert 0 == checked.returncode, checked.stderr
    assert "pagination.type" in run(alone, "explain", "pagination.type").stdout
    # Extras it lacks are named with the command that brings them.
    refused = run(alone, "check", conf / "quickstart.properties")
    assert 78 == refused.returncode
    assert (
        "pip install 'kafka-http-source[embedded]'" in refused.stderr + refused.stdout
    )


# --- beside another `engine` -----------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        {"engine/__init__.py": ""},
        {"engine/__init__.py": "raise ImportError('broken')"},
        {"engine.py": "x = 1"},
        {"engine/__init__.py": "DISTRIBUTION = 'other'", "engine/__main__.py": ""},
    ],
)
def test_another_engine_that_is_found_first_is_told_in_one_sentence(
    files: dict[str, str], tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    ended = subprocess.run(  # noqa: PLW1510 - judged below
        [sys.executable, LAUNCHER, "--version"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )

    assert 78 == ended.returncode
    assert 1 == ended.stderr.count("\n")
    assert "engine" in ended.stderr and "pipx install" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.timeout(600)
def test_a_distribution_that_writes_over_ours_is_named(alone: Path) -> None:
    [site] = (alone / "lib").glob("python*/site-packages")
    record = site / "engine_room-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: engine-room\nVersion: 1.0\n"
    )
    (record / "RECORD").write_text("engine/errors.py,,\n")
    (record / "top_level.txt").write_text("engine\n")
    ours = (site / "engine" / "errors.py").read_text()
    (site / "engine" / "errors.py").write_text("")
    try:
        ended = run(alone, "check", "x.properties")
    finally:
        (site / "engine" / "errors.py").write_text(ours)
        shutil.rmtree(record)

    assert 78 == ended.returncode
    assert 1 == ended.stderr.count("\n")
    assert "engine-room" in ended.stderr


def test_a_folder_called_engine_where_one_stands_changes_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").write_text("")

    ended = subprocess.run(  # noqa: PLW1510 - judged below
        [sys.executable, LAUNCHER, "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert (0, f"{DISTRIBUTION} {__version__}\n") == (ended.returncode, ended.stdout)


# --- examples --------------------------------------------------------------------


def test_examples_write_over_nothing_that_says_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(["examples", str(tmp_path)])
    assert 0 == main(["examples", str(tmp_path)])
    mine = tmp_path / "conf" / "quickstart.properties"
    mine.write_text("name=mine\n")
    (tmp_path / "LICENSE").unlink()
    capsys.readouterr()

    assert 64 == main(["examples", str(tmp_path)])

    assert str(mine) in capsys.readouterr().err
    assert "name=mine\n" == mine.read_text()
    assert not (tmp_path / "LICENSE").exists()
