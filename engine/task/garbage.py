"""
Garbage: when the interpreter looks for rings of objects that nobody reaches.

Owns the moment: between two pages, and about twice a second while none come;
never in the middle of a page, whose thousands of objects would be looked at
again and again and are all still needed.  What was there before, the engine's
own code and objects, is frozen and never looked at.

Path: ``task.run`` begins it, ``task.flow`` and it call here
"""

from __future__ import annotations

import gc


def begin() -> None:
    """From here on only `between_pages` collects, in the whole process."""
    gc.disable()


def freeze() -> None:
    """What is there now stays: no collection looks at it again."""
    gc.collect()
    gc.freeze()


def between_pages() -> None:
    """
    Collect as far as the interpreter would have by itself.

    Blocks: next to nothing, unless much is there to be looked at.
    """
    counts, limits = gc.get_count(), gc.get_threshold()
    if counts[0] <= limits[0]:
        return
    oldest = 0
    while oldest < 2 and counts[oldest + 1] >= limits[oldest + 1]:
        oldest += 1
    gc.collect(oldest)
