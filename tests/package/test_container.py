"""The container: what its file promises, and its steps as far as they go without one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

from engine.cli.main import parser

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "conf" / "container"


def steps() -> list[tuple[str, str]]:
    """(instruction, arguments), continued lines joined."""
    text = re.sub(r"(?m)^#.*\n", "", (FOLDER / "Containerfile").read_text())
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]  # type: ignore[misc]


def test_it_runs_without_rights_as_the_first_process_and_is_asked_how_it_fares() -> (
    None
):
    found = steps()
    last = {name: text for name, text in found}

    assert last["USER"].isdigit() and int(last["USER"]) > 0
    assert ["kafka-http-source"] == json.loads(last["ENTRYPOINT"])
    command = json.loads(last["CMD"])
    assert "run" == command[0]
    parser().parse_args(command)
    assert "/health/ready" in last["HEALTHCHECK"]
    assert "SIGTERM" == last["STOPSIGNAL"]
    # What is for trying out stays at home.
    whole = (FOLDER / "Containerfile").read_text()
    assert "noida" not in whole and "embedded" not in whole and "[all]" not in whole


def test_what_it_writes_lies_where_a_read_only_root_lets_it() -> None:
    texts = " ".join(text for name, text in steps() if name == "ENV")
    places = dict(re.findall(r"(\w+_DIRECTORY)=(\S+)", texts))

    assert {"STATE_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY"} == places.keys()
    [volume] = [text for name, text in steps() if name == "VOLUME"]
    assert volume == places["STATE_DIRECTORY"]
    assert places["RUNTIME_DIRECTORY"].startswith("/run/")


def test_its_extras_are_extras_of_ours() -> None:
    [install] = [text for name, text in steps() if "pip install" in text]
    found = re.search(r"\[([\w,]+)\]", install)
    assert found is not None
    setup = (ROOT / "setup.cfg").read_text()

    for extra in found[1].split(","):
        assert re.search(rf"(?m)^{extra} =$", setup)


def test_the_health_check_fails_where_nobody_answers_and_passes_where_one_does() -> (
    None
):
    [check] = [text for name, text in steps() if name == "HEALTHCHECK"]
    command = json.loads(check[check.index("[") :])
    assert "python" == command[0]

    ended = subprocess.run(
        [sys.executable, *command[1:-1], command[-1].replace(":8080", ":1")],
        capture_output=True,
        check=False,
    )

    assert ended.returncode != 0
    compile(command[-1], "health check", "exec")


def test_the_compose_file_drops_all_rights_and_names_what_is_there() -> None:
    engine = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["engine"]

    assert engine["read_only"] is True
    assert ["ALL"] == engine["cap_drop"]
    assert (
        FOLDER / engine["build"]["context"] / engine["build"]["dockerfile"]
    ).exists()
    parser().parse_args(engine["command"])
    published = engine["ports"]
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_its_environment_is_made_by_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `RUN` of the first stage, its folders in the test's own."""
    # What is started once is not worth compiling.
    monkeypatch.setenv("PIP_NO_COMPILE", "1")
    [install] = [text for name, text in steps() if "pip install" in text]
    extras = re.search(r"/source(\[[\w,]+\])", install)
    assert extras is not None
    venv.create(tmp_path / "env")
    # The pip that is here, at work there: to unpack it once more takes seconds.
    pip = [sys.executable, "-m", "pip", "--python", tmp_path / "env"]

    subprocess.run([*pip, "install", "-q", f"{ROOT}{extras[1]}"], check=True)

    program = tmp_path / "env" / "bin" / "kafka-http-source"
    said = subprocess.run([program, "--version"], check=True, capture_output=True)
    assert said.stdout.startswith(b"kafka-http-source ")
    command = [*pip, "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "noida" not in listed.stdout
