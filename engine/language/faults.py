"""
Faults of the small languages: wrong when written, or wrong when asked.

Owns the two exceptions and nothing else.  They carry no value out of a
record or a response, so that a message may be logged as it is.

Path: every file of this room -> here; `config` turns the first into a
finding, `source` and `transform` rename the second.
"""

from __future__ import annotations


class LanguageError(ValueError):
    """
    A text that cannot be compiled.

    Attributes:
        message: What is wrong, without the place.
        column: Where, from 1, within the text.
    """

    def __init__(self, message: str, column: int = 1):
        super().__init__(f"{message} (column {column})")
        self.message = message
        self.column = column


class EvaluationError(ValueError):
    """A compiled text that has no answer for these values: a wrong kind."""
