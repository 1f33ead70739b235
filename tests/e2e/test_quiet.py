"""
Nobody is woken by a connector whose API does nothing wrong.

Every profile of conf/, and with KAFKA_HTTP_SOURCE_GUIDE each configuration of
that Markdown file, runs against APIs that fare well in all the ways there are:
side by side in one engine, clocks shortened.  Health, the alerts as Prometheus
evaluates them and the scripts have to be quiet throughout.

Here each meets one way, for a minute; with KAFKA_HTTP_SOURCE_QUIET naming a number
of seconds each meets every way, for so long.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.admin import alerts
from engine.config.keys import TABLE
from tests.brokers import Broker
from tests.e2e.admin import Admin, Scrape, listening
from tests.e2e.rig import ROOT, Running
from tests.e2e.wellbehaved import WAYS, Wellbehaved
from tests.needs import need

pytestmark = pytest.mark.slow

GUIDE = os.environ.get("KAFKA_HTTP_SOURCE_GUIDE", "")
LONG = float(os.environ.get("KAFKA_HTTP_SOURCE_QUIET", "0"))

#: Seconds that are watched once every connector is healthy.
WATCHED = LONG or 45.0

#: Seconds between two looks; windows and delays of the alerts are a tenth.
LOOK = 2.0
TENTH = 6  # seconds for a minute

#: Seconds for which all of them may take to start, on a busy machine.
START = 240.0

#: Longer than a busy machine stands still, thrice it is silence.
INTERVAL = 3000

#: What a profile is told that has no URL, four times, so that there are lookups
#: enough to be judged by.
APIS = 4


class Case(NamedTuple):
    """A configuration: its name, its text, and an API for it."""

    name: str
    text: str
    way: str


def texts() -> Iterator[tuple[str, str]]:
    """Name and text of every configuration."""
    for path in sorted((ROOT / "conf").glob("*.properties")):
        yield path.stem, path.read_text()
    if not GUIDE:
        return
    fences = re.findall(
        r"^```properties\n(.*?)^```", Path(GUIDE).read_text(), re.DOTALL | re.MULTILINE
    )
    for number, fence in enumerate(fences, 1):
        # A second name begins a second connector.
        parts = re.split(r"(?m)^(?=name=)", fence)
        common = "" if len(parts) > 1 else parts.pop()
        for at, part in enumerate(parts[1:] or [common]):
            yield f"{'az'[at]}-fence-{number}", part


def cases() -> list[list[Case]]:
    """What runs side by side."""
    found = list(texts())
    if LONG:
        return [[Case(name, text, way) for name, text in found] for way in WAYS]
    ways = len(WAYS)
    return [[Case(*one, WAYS[at % ways]) for at, one in enumerate(found)]]


def without(text: str, keys: Sequence[str]) -> str:
    """A text without these keys."""
    for key in keys:
        text = re.sub(rf"(?m)^{re.escape(key)}=.*\n?", "", text)
    return text


class Stand:
    """The APIs of some cases, and the files of their connectors."""

    def __init__(self, folder: Path, stack: ExitStack, broker: Broker) -> None:
        self._stack = stack
        self._folder = folder
        self._broker = broker
        self.members: dict[str, str] = {}
        self.apis = {
            way: [stack.enter_context(Wellbehaved(way, self.members)) for _ in range(3)]
            for way in WAYS
        }
        self.files: list[Path] = []
        self.names: list[str] = []
        #: Keys of the whole process, as any of them has them.
        self.process: dict[str, str] = {}

    def add(self, case: Case) -> None:
        first, *_ = apis = self.apis[case.way]
        name = f"{case.name}-{case.way}"
        text = case.text
        keys: dict[str, object] = {"name": name, "kafka.topic": f"{name}-topic"}
        if "schedule=" in text:
            keys["http.source.poll.schedule"] = "*/3 * * * * *"
        else:
            keys["http.source.poll.interval.ms"] = INTERVAL
        if "pagination.limit.value" in text:
            keys["pagination.limit.value"] = 15
        path = f"/{name}"
        member = re.search(r"(?m)^http\.response\.data\.json\.pointer=(.*)$", text)
        if member:
            self.members[path] = member[1].strip("/")
        elif "pagination.cursor.field" in text:
            self.members[path] = "items"
            keys["http.response.data.json.pointer"] = "items"
        for number, one in enumerate(apis, 1):
            text = text.replace(f"https://api{number}.example.com", one.url)
        text = text.replace("https://api.example.com/[", f"{first.url}/[")
        if "http.api.base.url=" in text:
            keys["http.api.base.url"] = f"{first.url}/{name}/"
            del keys["kafka.topic"]
            text = re.sub(r"(?m)^(api\d\.kafka\.topic)=", rf"\1={name}-", text)
        elif "http.source.url=" in text:
            keys["http.source.url"] = first.url + path
        else:
            keys["apis.num"] = APIS
            for number in range(1, APIS + 1):
                self.members |= {
                    f"{path}-{number}": m for m in [self.members.get(path)] if m
                }
                keys[f"api{number}.http.source.url"] = f"{first.url}{path}-{number}"
        if "topic.creation.enable=false" in text:
            self._broker.create(f"{name}-topic")
        for key, entry in TABLE.items():
            if entry.scope == "P" and (
                found := re.search(rf"(?m)^{re.escape(key)}=(.*)$", text)
            ):
                self.process[key] = found[1]
                text = without(text, [key])
        text = without(text, list(keys))
        lines = [f"{key}={value}\n" for key, value in keys.items()]
        file = self._folder / f"{name}.properties"
        file.write_text(f"{text}\n{''.join(lines)}")
        self.files.append(file)
        self.names.append(name)

    def run(self) -> Running:
        process = self.process | {
            "bootstrap.servers": self._broker.address,
            "listeners": "http://127.0.0.1:0",
            "log.level": "INFO",
            "log.format": "text",
            **{
                f"{what}.dir": str(self._folder / what)
                for what in ("state", "cache", "runtime")
            },
        }
        told = [word for pair in process.items() for word in ("--set", "=".join(pair))]
        command = [sys.executable, "-m", "engine", "run", *map(str, self.files), *told]
        return self._stack.enter_context(Running(command, self._folder))


class Patient(Admin):
    """Waits as long for an answer as a busy machine needs for one."""

    patience = 60.0


class Watched:
    """What was seen of an engine."""

    def __init__(self, admin: Admin, names: Sequence[str]) -> None:
        self.admin = admin
        self.names = names
        self.complaints: dict[str, str] = {}
        self.scrapes: list[tuple[float, Scrape]] = []
        self.began = time.time()

    def look(self) -> dict[str, str]:
        """Connector -> status, as of now; remembers whatever is amiss."""
        told = self.admin.get("/health")["connectors"]
        for name, one in told.items():
            if one["status"] in ("degraded", "failed"):
                why = f"{one['status']}: {' '.join(one['reasons'])}"
                self.complaints.setdefault(f"{name} in /health", why)
        return {name: one["status"] for name, one in told.items()}

    def watch(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (at := time.monotonic()) < end:
            self.look()
            ready = self.admin.ask("/health/ready")
            if ready.status != 200:
                self.complaints.setdefault("/health/ready", ready.body.decode()[:400])
            self.scrapes.append((time.time(), self.admin.scrape()))
            time.sleep(max(0.0, at + LOOK - time.monotonic()))


def fired(tmp_path: Path, scrapes: Sequence[tuple[float, Scrape]]) -> str:
    """
    The alerts that Prometheus raises over these scrapes, as promtool says it.

    Windows and delays are shortened to a tenth.
    """
    need(shutil.which("promtool"), "promtool")
    rules = re.sub(
        r"(\[|for: )(\d+)m",
        lambda m: f"{m[1]}{int(m[2]) * TENTH}s",
        alerts.alerts(),
    )
    rules = re.sub(
        r"(?m)^ +(annotations:|summary: .*|description: .*|runbook_url: .*)\n",
        "",
        rules,
    )
    (tmp_path / "rules.yml").write_text(rules)
    used = set(re.findall(r"\bhttp_source_\w+", rules))
    assert used
    began = scrapes[0][0]
    looks = round((scrapes[-1][0] - began) / LOOK) + 1
    series: dict[str, list[str]] = {'up{job="kafka-http-source"}': ["1"] * looks}
    for then, scrape in scrapes:
        # A machine that is busy leaves looks out.
        at = round((then - began) / LOOK)
        for (name, labels), value in scrape.items():
            if name not in used:
                continue
            if name.endswith("_timestamp_seconds"):
                # Prometheus' test begins when the clock is 0.
                value -= began
            head = f"{name}{{{','.join(f'{k}={json.dumps(v)}' for k, v in labels)}}}"
            series.setdefault(head, ["_"] * looks)[at] = f"{value:.9f}"
    end = int((looks - 1) * LOOK)
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{LOOK:.0f}s",
        "tests": [
            {
                "interval": f"{LOOK:.0f}s",
                "input_series": [
                    {"series": head, "values": " ".join(values)}
                    for head, values in series.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": 'max_over_time(ALERTS{alertstate="firing"}'
                        f"[{end + LOOK:.0f}s])",
                        "eval_time": f"{end}s",
                        "exp_samples": [],
                    }
                ],
            }
        ],
    }
    file = tmp_path / "alerts.json"
    file.write_text(json.dumps(test))
    ran = subprocess.run(
        ["promtool", "test", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def script_of_the_guide() -> str:
    """The guide's alert script, or nothing without a guide."""
    if not GUIDE:
        return ""
    found = re.findall(
        r"^```bash\n(.*?)^```$", Path(GUIDE).read_text(), re.MULTILINE | re.DOTALL
    )
    return next(text for text in found if "THROUGHPUT_THRESHOLD=" in text)


def scripts_say(admin: Admin, names: Sequence[str]) -> Iterator[str]:
    """What the scripts that look for trouble have to say."""
    command = [sys.executable, "-S", str(ROOT / "scripts" / "performance-monitor")]
    for words in ([], *(["--connector", name] for name in names)):
        ran = subprocess.run(
            [*command, "--url", admin.url, *words],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode or ran.stdout or ran.stderr:
            yield f"performance-monitor {' '.join(words)}: {ran.stdout}{ran.stderr}"
    if text := script_of_the_guide():
        for tool in ("curl", "jq", "bc"):
            need(shutil.which(tool), tool)
        ran = subprocess.run(
            ["bash", "-c", text.replace("http://localhost:8080", admin.url)],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode or ran.stdout or ran.stderr:
            yield f"the guide's script: {ran.stdout}{ran.stderr}"


@pytest.mark.timeout(START + WATCHED + 240)
@pytest.mark.parametrize("together", cases(), ids=WAYS if LONG else ["mixed"])
def test_all_is_quiet_where_all_is_well(
    tmp_path: Path,
    embedded: Broker,
    together: list[Case],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("API_TOKEN", "token")
    with ExitStack() as stack:
        stand = Stand(tmp_path, stack, embedded)
        for case in together:
            stand.add(case)
        running = stand.run()
        admin = Patient(listening(tmp_path / "runtime", running)[0])
        watched = Watched(admin, stand.names)

        deadline = time.monotonic() + START
        while {"healthy"} != set((seen := watched.look()).values()):
            assert running.process.poll() is None, running.err[-4000:]
            late = {
                name: status for name, status in seen.items() if status != "healthy"
            }
            assert time.monotonic() < deadline, (late, watched.complaints)
            time.sleep(1)
        assert set(stand.names) == set(seen)
        watched.watch(WATCHED)
        said = list(scripts_say(admin, stand.names))
        told = admin.get("/health/metrics")
        polled = {n: one["requests"]["total"] for n, one in told["connectors"].items()}
        print(json.dumps({"scrapes": len(watched.scrapes), "requests": polled}))
        done = running.end()

    assert {} == watched.complaints
    assert [] == said
    assert "" == fired(tmp_path, watched.scrapes)
    assert 0 == done.code, done.err[-4000:]
    loud = re.findall(r"^.* (?:WARN|ERROR) .*$", done.err, re.MULTILINE)
    # Of root it is warned, and of nothing else.
    root = os.geteuid() == 0
    assert [] == [line for line in loud if not root or "Running as root" not in line]
    assert min(polled.values()) > 1


def test_an_alert_that_fires_is_seen(tmp_path: Path) -> None:
    """What the quiet is judged by is not deaf."""
    labels = (("connector", "c"),)
    scrape: Scrape = {("http_source_tls_insecure", labels): 1.0}
    scrapes = [(1e9 + LOOK * at, scrape) for at in range(30)]

    assert "HttpSourceTlsInsecure" in fired(tmp_path, scrapes)
