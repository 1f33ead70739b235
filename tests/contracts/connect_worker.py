"""
Connect's own worker, run beside the tests, and what can be told of an answer.

Owns the worker's jars, configuration and process, the sending of a call to a side, and the
shape of a JSON document: path -> types.  Which calls are put and what may differ stands in
`test_connect_worker`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.needs import need

VERSION = "4.3.1"

#: As its distribution has it: the calls for loggers need it.
LOG4J = "2.25.4"

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>worker</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId>
    <version>{VERSION}</version>
  </dependency><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>connect-file</artifactId>
    <version>{VERSION}</version>
  </dependency><dependency>
    <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
    <version>{LOG4J}</version>
  </dependency></dependencies>
</project>
"""

PROPERTIES = """bootstrap.servers={broker}
group.id={group}
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
config.storage.topic={group}-configs
config.storage.replication.factor=1
offset.storage.topic={group}-offsets
offset.storage.replication.factor=1
offset.storage.partitions=1
offset.flush.interval.ms=500
status.storage.topic={group}-status
status.storage.replication.factor=1
status.storage.partitions=1
plugin.discovery=service_load
listeners=http://127.0.0.1:{port}
rest.advertised.host.name=127.0.0.1
"""

LOG = """<Configuration><Appenders><Console name="out">
<PatternLayout pattern="%p %c %m%n"/></Console></Appenders>
<Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""

#: Seconds a start, or a change of state, may take on a busy machine.
PATIENCE = 90.0


def jars() -> Path:
    """The worker's jars; filled by Maven the first time."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    place = Path(root, "kafka-http-source", f"connect-worker-{VERSION}")
    if not (place / "complete").exists():
        place.mkdir(parents=True, exist_ok=True)
        (place / "pom.xml").write_text(POM)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={place}", "-f", str(place / "pom.xml")]
        # What lies in the local repository needs no network.
        for more in (["-o"], []):
            done = subprocess.run([*command, *more], capture_output=True, check=False)
            if done.returncode == 0:
                (place / "complete").touch()
                break
        else:
            need(None, "connect-runtime from Maven")
    return place


@contextlib.contextmanager
def worker(folder: Path, broker: str) -> Iterator[str]:
    """A distributed worker on a broker, until the end of the context; its URL."""
    for tool in ("java", "mvn"):
        need(shutil.which(tool), tool)
    libs = jars()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "worker.properties"
    group = f"connect-{os.getpid()}-{port}"
    config.write_text(PROPERTIES.format(broker=broker, group=group, port=port))
    (folder / "log4j2.xml").write_text(LOG)
    command = ["java", "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-Xshare:auto"]
    command += [
        "-XX:TieredStopAtLevel=1",
        f"-Dlog4j2.configurationFile={folder}/log4j2.xml",
    ]
    command += ["-cp", f"{libs}/*"]
    command += ["org.apache.kafka.connect.cli.ConnectDistributed", str(config)]
    with (folder / "worker.log").open("wb") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE
        while _health(url) != 200:
            assert child.poll() is None, (folder / "worker.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "the worker does not start"
            time.sleep(0.1)
        yield url
    finally:
        child.kill()
        child.wait()


def _health(url: str) -> int:
    try:
        return send(url, "GET", "/health").status
    except OSError:
        return 0


# --- a call -----------------------------------------------------------------------


class Told(NamedTuple):
    """
    An answer.

    Attributes:
        status: Its code.
        headers: Names in lower case.
        body: Its bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The JSON it holds; None for nothing, its text for anything else."""
        if not self.body:
            return None
        try:
            return json.loads(self.body)
        except ValueError:
            return self.body.decode(errors="replace")


def send(
    url: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] = {},
) -> Told:
    """
    One request as it stands, whatever the status of its answer.

    Raises: OSError, http.client.HTTPException.
    """
    parts = urlsplit(url)
    link = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)
    with contextlib.closing(link):
        given = {"Accept": "*/*", **headers}
        if body is not None:
            given.setdefault("Content-Type", "application/json")
        link.request(method, path, body, given)
        answer = link.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Told(answer.status, found, answer.read())


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.05)


# --- the shape of a document --------------------------------------------------------

#: Objects whose keys are names of somebody's: each value under `*`.
MAPS = {"config", "partition", "offset"}

_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    type(None): "null",
}


def shape(document: object) -> dict[str, set[str]]:
    """
    Path -> types: `$.tasks[].id` -> {"number"}.

    A field that only some entries of a list have is "absent", too.
    """
    found: dict[str, set[str]] = {}
    _shape([document], "$", found)
    return found


def _shape(values: list[Any], path: str, found: dict[str, set[str]]) -> None:
    kinds = found.setdefault(path, set())
    objects = [value for value in values if isinstance(value, dict)]
    for value in values:
        kinds.add(_TYPES.get(type(value), "list" if type(value) is list else "object"))
    inner = [each for value in values if isinstance(value, list) for each in value]
    if inner:
        _shape(inner, f"{path}[]", found)
    if path.rpartition(".")[2] in MAPS:
        held = [each for one in objects for each in one.values()]
        if held:
            _shape(held, f"{path}.*", found)
        return
    for name in dict.fromkeys(name for one in objects for name in one):
        having = [one[name] for one in objects if name in one]
        _shape(having, f"{path}.{name}", found)
        if len(having) < len(objects):
            found[f"{path}.{name}"].add("absent")


def texts(document: object, names: frozenset[str]) -> dict[str, set[str]]:
    """Path -> what stands there, of the fields with these names."""
    found: dict[str, set[str]] = {}

    def walk(value: object, path: str) -> None:
        if isinstance(value, dict):
            for name, each in value.items():
                walk(each, f"{path}.{name}")
        elif isinstance(value, list):
            for each in value:
                walk(each, f"{path}[]")
        elif path.rpartition(".")[2] in names:
            found.setdefault(path, set()).add(str(value))

    walk(document, "$")
    return found


def neutral(value: str, words: Mapping[str, str]) -> str:
    """A text with a side's own words in the place of what they stand for."""
    for word, meaning in sorted(words.items(), key=lambda each: -len(each[0])):
        value = re.sub(rf"(?<![\w.]){re.escape(word)}(?!\w)", meaning, value)
    return value
