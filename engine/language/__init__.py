"""
Language: the small languages of the configuration.

Paths, templates with expressions, date patterns, globs and regular
expressions, each compiled once into a plain callable.  Pure: no file, no
network, no clock.

Path: `config`, `source`, `transform` -> here
"""

from engine.language.charsets import text_codec
from engine.language.datepatterns import Pattern, compile_pattern
from engine.language.faults import EvaluationError, LanguageError
from engine.language.globs import compile_glob, has_wildcards
from engine.language.paths import Path, compile_path
from engine.language.places import (
    BodyTemplate,
    compile_body,
    encode_body_text,
    encode_form,
    encode_header,
    encode_in_json_string,
    encode_json,
    encode_path_segment,
    encode_query_value,
    encode_text,
)
from engine.language.regexes import Regex, compile_regex
from engine.language.templates import (
    RECORD_NAMES,
    REQUEST_NAMES,
    Expression,
    Template,
    compile_expression,
    compile_template,
)
from engine.language.times import Time, compile_zone, parse_timestamp
from engine.language.values import MISSING, decode, plain, text_of

__all__ = [
    "MISSING",
    "RECORD_NAMES",
    "REQUEST_NAMES",
    "BodyTemplate",
    "EvaluationError",
    "Expression",
    "LanguageError",
    "Path",
    "Pattern",
    "Regex",
    "Template",
    "Time",
    "compile_body",
    "compile_expression",
    "compile_glob",
    "compile_path",
    "compile_pattern",
    "compile_regex",
    "compile_template",
    "compile_zone",
    "decode",
    "encode_body_text",
    "encode_form",
    "encode_header",
    "encode_in_json_string",
    "encode_json",
    "encode_path_segment",
    "encode_query_value",
    "encode_text",
    "has_wildcards",
    "parse_timestamp",
    "plain",
    "text_codec",
    "text_of",
]
