"""
Transform: a page's records to a parcel's columns.

Rules, routes, converters, de-duplication and a user's function, compiled
once for each shard into one callable.  Pure but for the memory of what was
seen, the schemas it knows, and the registry they are asked of.

Path: ``source`` -> here -> ``sink``
"""

from engine.transform.compile import TransformOptions, compile_transform
from engine.transform.convert import Converter, JsonKey, TextKey, simple_converter
from engine.transform.page import PageTransform
from engine.transform.steps import Step

__all__ = [
    "Converter",
    "JsonKey",
    "PageTransform",
    "Step",
    "TextKey",
    "TransformOptions",
    "compile_transform",
    "simple_converter",
]
