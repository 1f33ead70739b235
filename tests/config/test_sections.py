"""Each option is declared once, typed, in the unit of its field, and read by someone."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine.config.sections as package
from engine.config.keys import TABLE
from engine.config.sections.limits import RateLimitConfig, RetryConfig
from engine.config.sections.section import Section
from engine.config.sections.tls import TlsConfig
from engine.config.sections.topics import GroupConfig
from tests.config.conftest import Files

ENGINE = Path(package.__file__).parent.parent.parent

BASE = "http.source.url=http://127.0.0.1/x\nkafka.topic=t\nbootstrap.servers=b:1\n"


def sections() -> dict[str, type[Section]]:
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        for name, kept in vars(
            importlib.import_module(f"{package.__name__}.{module.name}")
        ).items():
            if isinstance(kept, type) and issubclass(kept, Section):
                found[name] = kept
    del found["Section"]
    return found


SECTIONS = sections()

#: Read before there are values, or checked and of no further use.
READ_ELSEWHERE = {
    "IdentityConfig.name": "Connector.name",
    "ApisConfig.count": "counts the apis while they are loaded",
    "RequestConfig.header": "joined with http.source.headers while they are loaded",
    "TiersConfig.eviction_policy": "the default of the policy of each tier",
    "TlsConfig.truststore_type": "PEM is the only one",
    "TlsConfig.keystore_type": "PEM is the only one",
    "ConverterConfig.credentials_source": "USER_INFO is the only one",
    "DefaultGroupConfig.settings": "a family: Values.prefixed",
    "GroupConfig.settings": "a family: Values.prefixed",
    "StateTopicConfig.settings": "a family: Values.prefixed",
    "ProviderConfig.provider_class": "it must name the built-in one",
    "ProviderRulesConfig.allowed": "providers are resolved while values are loaded",
    "ProviderRulesConfig.env_pattern": "providers are resolved while values are loaded",
    "ProviderPathsConfig.allowed": "providers are resolved while values are loaded",
    # What `run` refuses: not available yet.
    **{
        f"{section}.{field}": "not available yet"
        for section, fields in {
            "ClusterConfig": "group_id instance_id session_timeout heartbeat_interval",
        }.items()
        for field in fields.split()
    },
}


class Reads(ast.NodeVisitor):
    """Which fields of which sections a module reads."""

    def __init__(self, tree: ast.AST):
        self.found: set[str] = set()
        self._kinds: dict[str, set[str]] = {}
        for node in ast.walk(tree):
            self._learn(node)
        self.visit(tree)

    def _learn(self, node: ast.AST) -> None:
        """Names that hold a section: assigned from `of`, or annotated."""
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=False))
                for one, value in pairs:
                    for section in self._of(value):
                        self._kinds.setdefault(ast.unparse(one), set()).add(section)
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
            for section in SECTIONS:
                if section in ast.unparse(node.annotation):
                    self._kinds.setdefault(name, set()).add(section)

    def _of(self, node: ast.AST) -> Iterator[str]:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return
        if "of" == node.func.attr and node.args:
            name = ast.unparse(node.args[0])
            if name in SECTIONS:
                yield name

    def visit_Attribute(self, node: ast.Attribute) -> None:
        known = [*self._of(node.value), *self._kinds.get(ast.unparse(node.value), ())]
        self.found |= {f"{section}.{node.attr}" for section in known}
        self.generic_visit(node)


def read() -> set[str]:
    found: set[str] = set()
    for path in ENGINE.rglob("*.py"):
        text = path.read_text()
        if "Config" in text:
            found |= Reads(ast.parse(text)).found
    # A property of a section reads its own fields.
    for section, kept in SECTIONS.items():
        tree = ast.parse(Path(sys.modules[kept.__module__].__file__ or "").read_text())
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == section:
                found |= {
                    f"{section}.{each.attr}"
                    for each in ast.walk(node)
                    if isinstance(each, ast.Attribute)
                    and ast.unparse(each.value) == "self"
                }
    return found


def test_every_option_is_read_by_someone() -> None:
    declared = {
        f"{name}.{field}"
        for name, section in SECTIONS.items()
        for field in section.options()
    }

    unread = declared - read()

    assert set() == unread - set(READ_ELSEWHERE), "a key that nobody reads"
    assert set() == set(READ_ELSEWHERE) - unread, "said to be read elsewhere"


def test_every_key_of_the_table_is_declared_in_a_section() -> None:
    names = {
        option.key.name
        for section in SECTIONS.values()
        for option in section.options().values()
    }
    whole = {name for name in names if "{" not in name}
    endings = tuple(name.rpartition("}")[2] for name in names - whole)

    # What wins over a key of the producer is made of that key's own entry.
    rest = [
        key.name for key in TABLE.values() if key.name not in whole and not key.folds
    ]
    assert [] == [name for name in rest if not name.endswith(endings)]


def test_fields_are_in_seconds_and_of_their_types(files: Files) -> None:
    text = BASE + "retry.backoff.ms=1500\nrate.limit.requests.per.second=2.5\n"
    (api,) = files.load(text).connectors[0].apis

    assert 1.5 == api.values.of(RetryConfig).backoff
    assert 60.0 == api.values.of(RetryConfig).backoff_max
    assert (2.5, 3) == (
        api.values.of(RateLimitConfig).per_second,
        api.values.of(RateLimitConfig).burst,
    )
    assert 1500 == api.values["retry.backoff.ms"]


def test_a_section_that_stands_in_several_places_is_asked_for_one(files: Files) -> None:
    text = BASE + (
        "security.protocol=SSL\nssl.enabled.protocols=TLSv1.3\nadmin.override.ssl.enabled.protocols=TLSv1.2\n"
        "topic.creation.groups=g\ntopic.creation.g.include=a.*\n"
    )
    values = files.load(text).connectors[0].values

    found = [
        values.of(TlsConfig, at=at).protocols
        for at in ("ssl.", "producer.ssl.", "admin.override.ssl.")
    ]
    assert [("TLSv1.3",), ("TLSv1.3",), ("TLSv1.2",)] == found
    assert ("a.*",) == values.of(GroupConfig, group="g").include
    assert values.of(GroupConfig, group="g").exclude is None


def test_a_section_of_another_scope_is_refused(files: Files) -> None:
    values = files.load(BASE).connectors[0].values

    with pytest.raises(KeyError):
        values.of(RetryConfig)


def test_a_section_without_configuration_has_the_defaults_of_the_table() -> None:
    assert (1.0, 60.0, 5) == (
        RetryConfig().backoff,
        RetryConfig().backoff_max,
        RetryConfig().max_retries,
    )
    with pytest.raises(AttributeError):
        RetryConfig().max_retries = 1  # type: ignore[misc]


#: A line in a function of `values`, and what mypy says of it.
WRONG = {
    "a: int = values.of(RetryConfig).max_retrys": "attr-defined",
    "b: str = values.of(RetryConfig).max_retries": "assignment",
    "c: int = values['max.retries']": "assignment",
    "d: int = values['no.such.key'] + 'a'": "operator",
    "e: str = values.of(RateLimitConfig).per_second": "assignment",
}


def test_mypy_sees_each_wrong_read(tmp_path: Path) -> None:
    head = (
        "from engine.config import Values\n"
        "from engine.config.sections.limits import RateLimitConfig, RetryConfig\n"
        "def use(values: Values) -> None:\n"
    )
    file = tmp_path / "wrong.py"
    file.write_text(head + "".join(f"    {line}\n" for line in WRONG))

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            str(file),
        ],
        cwd=ENGINE.parent,
        capture_output=True,
        text=True,
        check=False,
    )

    for at, finding in enumerate(WRONG.values(), 4):
        said = [line for line in done.stdout.splitlines() if f".py:{at}: error" in line]
        assert any(f"[{finding}]" in line for line in said), done.stdout + done.stderr
