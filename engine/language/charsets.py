"""
Charsets: which names of text encodings are taken from a stranger.

Owns the list.  Python's codec registry holds more than text encodings of the
web: transforms (rot13, zlib), escapes (unicode_escape), codecs whose time is
quadratic (punycode, idna) and one in which ASCII bytes mean other characters
(utf-7).  What an API's label can name is therefore a list of ours.

Path: `source`, `config` -> here
"""

from __future__ import annotations

from typing import Final

#: Codec of Python by the names in IANA's registry and in WHATWG's Encoding
#: Standard.  UTF-7, HZ and the EBCDIC code pages are not in it: in these an
#: ASCII byte is not that ASCII character, which is how filters are deceived.
_CODECS: Final[dict[str, tuple[str, ...]]] = {
    "utf-8": ("utf8", "unicode-1-1-utf-8", "unicode11utf8", "x-unicode20utf8"),
    "utf-16": ("utf16", "ucs-2", "iso-10646-ucs-2", "csunicode"),
    "utf-16-le": ("utf-16le", "utf16le", "unicodefeff"),
    "utf-16-be": ("utf-16be", "utf16be", "unicodefffe"),
    "utf-32": ("utf32", "ucs-4", "iso-10646-ucs-4", "csucs4"),
    "utf-32-le": ("utf-32le", "utf32le"),
    "utf-32-be": ("utf-32be", "utf32be"),
    "ascii": (
        *("us-ascii", "ansi_x3.4-1968", "ansi_x3.4-1986", "iso646-us", "us"),
        *("iso_646.irv:1991", "iso-ir-6", "ibm367", "cp367", "csascii"),
    ),
    "iso8859-1": (
        *("iso-8859-1", "iso8859_1", "iso_8859-1", "iso88591", "iso_8859-1:1987"),
        *("latin1", "latin-1", "latin_1", "l1", "iso-ir-100", "ibm819", "cp819"),
        "csisolatin1",
    ),
    "iso8859-2": ("iso-8859-2", "iso_8859-2", "iso88592", "latin2", "l2"),
    "iso8859-3": ("iso-8859-3", "iso_8859-3", "iso88593", "latin3", "l3"),
    "iso8859-4": ("iso-8859-4", "iso_8859-4", "iso88594", "latin4", "l4"),
    "iso8859-5": ("iso-8859-5", "iso_8859-5", "iso88595", "cyrillic"),
    "iso8859-6": ("iso-8859-6", "iso_8859-6", "iso88596", "arabic"),
    "iso8859-7": ("iso-8859-7", "iso_8859-7", "iso88597", "greek", "greek8"),
    "iso8859-8": (
        *("iso-8859-8", "iso_8859-8", "iso88598", "hebrew", "iso-8859-8-i"),
        "logical",
    ),
    "iso8859-9": ("iso-8859-9", "iso_8859-9", "iso88599", "latin5", "l5"),
    "iso8859-10": ("iso-8859-10", "iso_8859-10", "iso885910", "latin6", "l6"),
    "iso8859-11": ("iso-8859-11", "iso_8859-11", "iso885911"),
    "iso8859-13": ("iso-8859-13", "iso_8859-13", "iso885913", "latin7"),
    "iso8859-14": ("iso-8859-14", "iso_8859-14", "iso885914", "latin8"),
    "iso8859-15": ("iso-8859-15", "iso_8859-15", "iso885915", "latin-9", "latin9"),
    "iso8859-16": ("iso-8859-16", "iso_8859-16", "iso885916", "latin10"),
    **{
        f"cp{number}": (f"windows-{number}", f"x-cp{number}", f"windows{number}")
        for number in range(1250, 1259)
    },
    "cp874": ("windows-874", "dos-874", "windows874"),
    "tis-620": ("tis620",),
    **{
        f"cp{number}": (f"ibm{number}", f"{number}", f"csibm{number}", f"ibm-{number}")
        for number in (437, 850, 852, 855, 857, 858, 860, 861, 862, 863, 864, 865)
    },
    "cp866": ("ibm866", "866", "csibm866", "ibm-866"),
    "koi8-r": ("koi8", "koi", "koi8_r", "cskoi8r"),
    "koi8-u": ("koi8-ru", "koi8_u"),
    "mac-roman": ("macintosh", "mac", "x-mac-roman", "macroman", "csmacintosh"),
    "mac-cyrillic": ("x-mac-cyrillic", "x-mac-ukrainian", "maccyrillic"),
    "shift_jis": ("shift-jis", "sjis", "x-sjis", "ms_kanji", "csshiftjis"),
    "cp932": ("windows-31j", "ms932", "mskanji", "cswindows31j"),
    "euc_jp": ("euc-jp", "eucjp", "x-euc-jp"),
    "iso2022_jp": ("iso-2022-jp", "csiso2022jp"),
    "gb2312": ("gb_2312-80", "chinese", "csgb2312", "euc-cn", "euccn", "gb_2312"),
    "gbk": ("x-gbk", "cp936", "ms936", "windows-936"),
    "gb18030": (),
    "big5": ("big5-tw", "csbig5", "cn-big5", "x-x-big5"),
    "big5hkscs": ("big5-hkscs",),
    "cp950": ("windows-950", "ms950"),
    "euc_kr": (
        *("euc-kr", "euckr", "korean", "ksc5601", "ks_c_5601", "ks_c_5601-1987"),
        *("ks_c_5601-1989", "ksc_5601", "cseuckr"),
    ),
    "cp949": ("windows-949", "ms949", "uhc"),
    "johab": ("cp1361", "ms1361"),
}

_BY_LABEL: Final = {
    label: codec for codec, labels in _CODECS.items() for label in (codec, *labels)
}

#: Longest label that is looked at.
_LONGEST: Final = 40


def text_codec(label: str) -> str | None:
    """
    The codec of Python for a charset's label; None for one that is not read.

    The label may stand in quotes and with blanks around it; its case does not
    matter.  The codec never raises other than UnicodeError, and its time and
    memory grow with the bytes.
    """
    if len(label) > _LONGEST:
        return None
    return _BY_LABEL.get(label.strip().strip("\"'").strip().lower())
