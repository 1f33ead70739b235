"""A first word of a template that is nearly a name is warned of."""

from __future__ import annotations

import pytest

from tests.config.conftest import Files


def warned(files: Files, key: str, value: str) -> list[str]:
    loaded = files.load(f"{key}={value}\n")
    return [
        f.message
        for f in loaded.findings
        if f.severity == "warning" and "did you mean" in f.message and f.key == key
    ]


SLIPS = {
    "recrod.id": "record",
    "recod.id": "record",
    "recordd.id": "record",
    "rekord.id": "record",
    "Record.id": "record",
    "records.id": "record",
    "respones.at": "response",
    "reponse.header.date": "response",
    "parnet.id": "parent",
    "parents.id": "parent",
    "parent_valu": "parent_value",
    "entityname": "entityName",
    "entiyName": "entityName",
    "conector": "connector",
    "yesterdy": "yesterday",
    "upper(recrod.id)": "record",
}


@pytest.mark.parametrize("key", ["kafka.key", "kafka.topic", "kafka.headers"])
@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_of_a_first_word_is_warned_of(files: Files, key: str, slip: str) -> None:
    value = f"a:${{{slip}}}" if key == "kafka.headers" else f"${{{slip}}}"

    [said] = warned(files, key, value)

    assert f"did you mean {SLIPS[slip]}?" in said


@pytest.mark.parametrize(
    "meant",
    [
        "record.id",
        "record.recrod",
        "response.header.date",
        "id",
        "row.id",
        "list.name",
        "order.id",
        "customer.parnet",
        "'recrod'",
        "code",
        "connector",
        "upper(id)",
    ],
)
def test_what_is_meant_is_not(files: Files, meant: str) -> None:
    assert [] == warned(files, "kafka.key", f"${{{meant}}}")
