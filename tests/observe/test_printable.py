"""Printable: strangers' text is shown, never obeyed."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest

from engine.cli.display import say, say_table
from engine.cli.main import main
from engine.cli.terminal import bare, guarded
from engine.observe.printable import printable, printable_line

#: Characters that are no danger though they are of a category that others are of.
HARMLESS = set("\t\n")
FORMAT = {"\u200b", "\u200c", "\u200d", "\u00ad"}


def test_every_control_and_mark_of_direction_is_escaped() -> None:
    for point in range(0x110000):
        character = chr(point)
        kind = unicodedata.category(character)
        shown = printable(character)
        if kind in ("Cc", "Zl", "Zp", "Cs") and character not in HARMLESS:
            assert shown.isascii() and shown.isprintable(), hex(point)
        elif unicodedata.bidirectional(character) in (
            *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
        ):
            assert shown.isascii(), hex(point)
        elif kind not in ("Cf", "Cn"):
            assert shown == character, hex(point)


def test_ordinary_text_is_left_alone() -> None:
    for text in ("", "abc", "h\u00e9llo \u65e5\u672c \U0001f600", "a\tb\nc", *FORMAT):
        assert text == printable(text)
    assert r"a\tb\nc\r\x1b\u202e" == printable_line("a\tb\nc\r\x1b\u202e")


def test_json_stays_the_same_json() -> None:
    value = {"a\x9b": ["\u2028\u202e\x7f", "\U000e0041\ufeff"]}

    assert value == json.loads(printable(json.dumps(value, ensure_ascii=False)))


def test_both_streams_are_guarded_and_given_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sys.stdout, sys.stderr
    with guarded():
        print("a\x1b[31m\u202eb")
        print("c\x9b", file=sys.stderr)
        assert bare(sys.stdout) is before[0]
        say(["x\x1b]0;t\x07"])
        say_table(["a", "b"], [["\x1b[2J", "1\n2"]])

    out, err = capsys.readouterr()
    assert (before[0], before[1]) == (sys.stdout, sys.stderr)
    assert not set("\x1b\x07\x9b\u202e") & set(out + err)
    assert r"a\u001b[31m\u202eb" in out
    assert r"1\n2" in out


def test_a_closed_stdout_is_left_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    with guarded():
        assert sys.stdout is None


@pytest.mark.parametrize(
    "words",
    [
        ["check", "{file}"],
        ["check", "--json", "{file}"],
        ["config", "show", "{file}"],
        ["explain", "\x1b[31mkafka.topic"],
        ["check", "/no/such/\x1b]0;t\x07\u202e"],
        ["\x1b[2Jverb"],
    ],
)
def test_no_command_sends_what_stands_in_a_file_or_a_word(
    tmp_path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    file = tmp_path / "a\x1b[31m\u2028.properties"
    file.write_text(
        "http.source.url=https://h.example/\u202ex\nkafka.topic=t\n"
        "kafka.key=\x1b]0;title\x07\x9b\u2029${record.id}\nbogus\x1b.key=1\n"
        "bootstrap.servers=127.0.0.1:1\nhttp.source.header.X=\x9bA\n"
    )

    main([word.replace("{file}", str(file)) for word in words])

    out, err = capsys.readouterr()
    assert out + err
    assert not set("\x1b\x07\x9b\u202e\u2028\u2029") & set(out + err)
