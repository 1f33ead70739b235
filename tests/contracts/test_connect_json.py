"""What `schemas.enable` writes is read by Connect's own JsonConverter."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RecordError
from engine.transform.convert import simple_converter
from tests.needs import need

VERSION = "4.1.0"
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>connect</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>connect-json</artifactId>
    <version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""

#: What leaves, and what Connect makes of it; None: a bad record of ours.
ROWS: list[tuple[str, str | None]] = [
    ("5", "Long 5"),
    ("1.50", "Double 1.5"),
    ('"x"', "String x"),
    ("true", "Boolean true"),
    ("[]", "[]"),
    ("{}", "{}"),
    ('{"a":null}', "{a:null}"),
    ('{"a":[null,null]}', "{a:[null,null]}"),
    ('{"a":[1,2.5,null]}', "{a:[Double 1.0,Double 2.5,null]}"),
    ('{"a":[1,"x"]}', None),
    ('{"a":[true,0]}', None),
    ('{"a":[[1],["x"]]}', None),
    ('{"a":[{"b":1},{"b":"x"}]}', None),
    ('{"a":[{},[]]}', None),
    ('{"a":[9007199254740993,1.5]}', None),
    ('{"a":[{"b":1},{"c":"x"}]}', "{a:[{b:Long 1,c:null},{b:null,c:String x}]}"),
    (
        '{"a":[[{"b":1}],[{"c":{"d":2}}],[]]}',
        "{a:[[{b:Long 1,c:null}],[{b:null,c:{d:Long 2}}],[]]}",
    ),
    ('{"a":9223372036854775807}', "{a:Long 9223372036854775807}"),
    ('{"a":-9223372036854775808}', "{a:Long -9223372036854775808}"),
    ('{"a":9223372036854775808}', None),
    ('{"a":[1,9223372036854775808]}', None),
    ('{"a":-0}', "{a:Long 0}"),
    ('{"a":1e308}', "{a:Double 1.0E308}"),
    ('{"a":1e400}', None),
    ('{"a":[-1e400,1]}', None),
    ('{"a":1e99999999999}', None),
    ('{"a":0.' + "1" * 1100 + "}", None),
    ('{"":1}', None),
    ('{"a":[{"":1}]}', None),
    ('{"' + "n" * 50_001 + '":1}', None),
    ('{"schema":1,"payload":2}', "{schema:Long 1,payload:Long 2}"),
    ('{"a.b":"\\u0000"}', "{a.b:String \0}"),
    ("[" * 60 + "]" * 60, "[" * 60 + "]" * 60),
]


def _jars() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    place = Path(root, "kafka-http-source", f"connect-json-{VERSION}")
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
            need(None, "connect-json from Maven")
    return place


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that reads base64 lines with Connect's converter."""
    for tool in ("java", "javac", "mvn"):
        need(shutil.which(tool), tool)
    classes = tmp_path_factory.mktemp("classes")
    path = f"{_jars()}/*"
    source = Path(__file__).with_name("ReadConnectJson.java")
    subprocess.run(["javac", "-cp", path, "-d", str(classes), str(source)], check=True)
    return ["java", "-cp", f"{path}:{classes}", "ReadConnectJson"]


def read(java: list[str], envelopes: list[bytes]) -> list[str]:
    lines = b"".join(base64.b64encode(each) + b"\n" for each in envelopes)
    done = subprocess.run(java, input=lines, capture_output=True, check=True)
    found = done.stdout.decode().splitlines()
    assert len(found) == len(envelopes)
    return found


def written(payloads: list[str]) -> list[Any]:
    converter = simple_converter("Json", schemas_enable=True)
    return list(converter.convert("topic", [each.encode() for each in payloads]))


def test_what_connect_cannot_read_is_a_bad_record_and_the_rest_is_read() -> None:
    for (payload, wanted), found in zip(ROWS, written([row[0] for row in ROWS])):
        assert isinstance(found, RecordError) is (wanted is None), payload[:60]


def test_connect_reads_every_envelope_as_what_it_was(java: list[str]) -> None:
    rows = [row for row in ROWS if row[1] is not None]
    found = read(java, [bytes(each) for each in written([row[0] for row in rows])])
    assert found == [f"read {wanted}" for _, wanted in rows]


def test_connect_reads_whatever_leaves(java: list[str]) -> None:
    dice = random.Random(7)
    numbers = ["0", "-0", "1", "1.50", "9007199254740993", "9223372036854775808"]
    numbers += ["1e400", "1e-400", "-1.5E+3", "123456789012345678901234567890.5"]

    def value(depth: int) -> str:
        shape = dice.randrange(9 if depth < 3 else 6)
        if shape < 3:
            return dice.choice(numbers)
        if shape < 6:
            return dice.choice(["null", "true", '"x"', '""', "[]", "{}"])
        inner = [value(depth + 1) for _ in range(dice.randrange(4))]
        if shape == 6:
            return "[" + ",".join(inner) + "]"
        names = [json.dumps(dice.choice(["a", "b", "", "é"])) for _ in inner]
        return "{" + ",".join(map(":".join, zip(names, inner))) + "}"

    payloads = [value(0) for _ in range(2000)]
    left = [each for each in written(payloads) if not isinstance(each, RecordError)]
    assert len(left) > 500
    assert not [line for line in read(java, left) if not line.startswith("read ")]
