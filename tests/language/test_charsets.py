"""Charsets: text encodings of the web, and no other codec of Python's."""

from __future__ import annotations

import encodings.aliases
import time

import pytest

from engine.language.charsets import _BY_LABEL, text_codec

#: Codecs that are no text encoding, or that no stranger may choose.
NEVER = {
    *("punycode", "idna", "utf_7", "unicode_escape", "raw_unicode_escape"),
    *("undefined", "mbcs", "oem", "palmos", "charmap", "unicode_internal"),
    *("rot_13", "base64_codec", "bz2_codec", "hex_codec", "quopri_codec"),
    *("uu_codec", "zlib_codec", "hz", "cp037", "cp500", "cp1140", "utf_8_sig"),
}


@pytest.mark.parametrize("codec", sorted(NEVER))
def test_what_is_no_charset_is_unknown_under_every_name(codec: str) -> None:
    names = {codec, codec.replace("_", "-"), codec.replace("_", ""), codec.upper()}
    names |= {alias for alias, of in encodings.aliases.aliases.items() if of == codec}

    assert [] == [name for name in names if text_codec(name) is not None]


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("utf-8", "utf-8"),
        ("UTF-8", "utf-8"),
        ("utf8", "utf-8"),
        ('"UTF-8"', "utf-8"),
        (" 'utf-8' ", "utf-8"),
        ("us-ascii", "ascii"),
        ("ISO-8859-1", "iso8859-1"),
        ("latin1", "iso8859-1"),
        ("iso-8859-15", "iso8859-15"),
        ("windows-1252", "cp1252"),
        ("Windows-1251", "cp1251"),
        ("KOI8-R", "koi8-r"),
        ("Shift_JIS", "shift_jis"),
        ("windows-31j", "cp932"),
        ("EUC-JP", "euc_jp"),
        ("ISO-2022-JP", "iso2022_jp"),
        ("GB2312", "gb2312"),
        ("GBK", "gbk"),
        ("gb18030", "gb18030"),
        ("Big5", "big5"),
        ("EUC-KR", "euc_kr"),
        ("UTF-16", "utf-16"),
        ("utf-16le", "utf-16-le"),
        ("macintosh", "mac-roman"),
        ("IBM850", "cp850"),
    ],
)
def test_labels_of_the_web_are_known(label: str, codec: str) -> None:
    assert codec == text_codec(label)


@pytest.mark.parametrize(
    "label", ["", "klingon", "utf-8" + " " * 99, "\0utf-8", "u" * 99]
)
def test_what_is_none_is_none(label: str) -> None:
    assert text_codec(label) is None


@pytest.mark.parametrize("codec", sorted(set(_BY_LABEL.values())))
def test_every_codec_decodes_text_in_time_that_grows_with_it(codec: str) -> None:
    for body in (b"\xff" * 200_000, b"a" * 200_000, bytes(range(256)) * 800, b"\x1b$B"):
        began = time.thread_time()
        try:
            found = str(body, codec)
        except UnicodeError:
            pass
        else:
            assert isinstance(found, str)
        assert time.thread_time() - began < 1.0
