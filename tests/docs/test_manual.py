"""The manual: every page is listed, links lead somewhere, examples load and parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import trustme

from engine.cli.main import main, parser
from engine.config import load
from engine.config.explain import explain, known
from engine.config.keys import TABLE
from engine.config.keys.pages import PAGES as PAGES_OF
from engine.errors import ConfigError
from engine.observe.failures import KINDS

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))

FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")

#: What a fragment on a page leaves to its reader.
BASE = {
    "name": "manual",
    "bootstrap.servers": "localhost:9092",
    "http.source.url": "https://api.example.com/v1/orders",
    "kafka.topic": "orders",
}

#: Variables and files that the examples speak of.
VARIABLES = (
    "API_PASSWORD",
    "API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "CLIENT_SECRET",
    "REGISTRY_LOGIN",
)


def fences(language: str) -> list[tuple[str, str]]:
    """(page and number, text) of the manual's examples in a language."""
    return [
        (f"{page.name}-{number}", text)
        for page in PAGES
        for number, (found, words, text) in enumerate(
            FENCE.findall(page.read_text()), 1
        )
        if found == language and not words.strip()
    ]


@pytest.mark.parametrize(("where", "text"), fences("properties"), ids=lambda x: x[:40])
def test_a_configuration_of_the_manual_loads(
    where: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "user:secret-of-the-manual")
    secret = tmp_path / "token"
    secret.write_text("a-token-of-the-manual\n")
    secret.chmod(0o600)
    text = re.sub(r"\$\{file:[^}:]*\}", f"${{file:{secret}}}", text)
    text = re.sub(r"=(/\S+\.pem)$", f"={pem(tmp_path)}", text, flags=re.MULTILINE)
    if "order.avsc" in text:
        (tmp_path / "order.avsc").write_text(
            '{"type":"record","name":"Order","fields":[{"name":"id","type":"long"}]}'
        )
    stated = set(re.findall(r"^([\w.]+)=", text, re.MULTILINE))
    lines = [f"{key}={value}" for key, value in BASE.items() if key not in stated]
    if any(key.startswith("api1.") for key in stated):
        lines = [line for line in lines if not line.startswith(("http.", "kafka."))]
    file = tmp_path / "manual.properties"
    file.write_text("\n".join(lines) + "\n" + text)

    try:
        loaded = load([str(file)])
    except ConfigError as refused:
        pytest.fail(f"{where}: {refused}")

    assert loaded.connectors


def pem(folder: Path) -> Path:
    """A certificate and its key, as the examples name one."""
    path = folder / "both.pem"
    if not path.exists():
        made = trustme.CA().issue_cert("client.example.com")
        path.write_bytes(made.private_key_pem.bytes() + made.cert_chain_pems[0].bytes())
        path.chmod(0o600)
    return path


@pytest.mark.parametrize(("where", "text"), fences("sh"), ids=lambda x: x[:40])
def test_a_command_of_the_manual_is_one(where: str, text: str) -> None:
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["kafka-http-source"]:
            continue
        parser().parse_args(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_listed_its_links_lead_somewhere_and_its_lines_fit(
    page: Path,
) -> None:
    text = page.read_text()

    assert (
        page.name == "README.md" or f"({page.name})" in (DOCS / "README.md").read_text()
    )
    assert "<<<<" not in text and ">>>>" not in text
    for link in LINK.findall(text):
        assert (page.parent / link).exists(), link
    prose = FENCE.sub("", text)
    long = [
        line
        for line in prose.splitlines()
        if len(line) > 100 and not line.startswith("|")
    ]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_key_that_a_page_names_is_one(page: Path) -> None:
    """`key=value` and `dotted.key` in code; families end in `*`."""
    text = FENCE.sub("", page.read_text())
    for code in re.findall(r"`([^`\n]+)`", text):
        key = code.partition("=")[0]
        first = key.split(".")[0]
        if re.fullmatch(r"[a-z0-9]+(\.[a-z0-9<>-]+)+", key) and first in FAMILIES:
            assert known(key), f"{page.name}: {key}"


#: First words of our keys: other dotted words in code are paths and modules.
FAMILIES = (
    "http", "https", "pagination", "producer", "rate", "cache", "errors", "health",
    "deduplication", "offset", "oauth2", "transformation", "topic", "circuit", "retry",
    "auto", "process", "log", "admin", "exactly", "schedule", "task", "tasks",
)  # fmt: skip


def test_every_kind_of_failure_has_its_line_in_the_troubleshooting() -> None:
    text = (DOCS / "troubleshooting.md").read_text()

    for kind in KINDS:
        assert f"| `{kind}` |" in text


def test_every_section_of_the_table_has_a_page_and_every_key_names_it() -> None:
    assert {key.section for key in TABLE.values()} == PAGES_OF.keys()
    for page in PAGES_OF.values():
        assert (DOCS / page).exists()
    assert "manual    docs/paging.md" in explain("pagination.type")


def test_check_names_the_pages_about_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.properties"
    file.write_text("name=a\npagination.type=pages\ncache.l1.policy=X\nnokey=1\n")

    assert 78 == main(["check", str(file)])

    [line] = [x for x in capsys.readouterr().err.splitlines() if x.startswith("see ")]
    for page in ("docs/paging.md", "docs/cache.md", "docs/configuration.md"):
        assert page in line
