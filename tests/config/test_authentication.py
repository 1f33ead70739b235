"""Authentication types: declared once, made by one function, their keys their own."""

from __future__ import annotations

import pytest

from engine.config.authentication import TYPES
from engine.config.keys import TABLE
from engine.task.build.auth import MAKERS

#: Keys of the heading that are of no single type.
OF_ALL = {"auth.type", "http.auth.class", "auth.renew.status", "http.cookies"}


def test_every_type_is_made_by_one_function():
    assert set(TYPES) == set(MAKERS)
    assert len(MAKERS) == len(set(MAKERS.values()))


@pytest.mark.parametrize("name", TYPES)
def test_a_type_needs_keys_of_its_own(name):
    assert set(TYPES[name].needs) <= set(TABLE)
    assert all(TYPES[name].owns(key) for key in TYPES[name].needs)


def test_every_key_of_authentication_is_some_types():
    keys = {name for name, key in TABLE.items() if "Authentication" == key.section}

    stray = {key for key in keys if not any(kind.owns(key) for kind in TYPES.values())}

    assert stray <= OF_ALL


def test_no_key_of_another_heading_is_taken_for_credentials():
    taken = {
        key.section
        for name, key in TABLE.items()
        if any(kind.owns(name) for kind in TYPES.values())
    }

    assert {"Authentication"} == taken
