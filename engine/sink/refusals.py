"""
Refusals: what a broker does not take, in words that say what to change.

Owns the sentence about a refused record: which one, what of it, which setting.

Path: `sink.outlet` hears of refused records and asks here what to say.
"""

from __future__ import annotations

from engine.sink.produce import verdicts
from engine.sink.produce.queue import RefusedRecord

#: What each kind of refusal is about: the key that makes the field, and the topic's
#: settings that judge it.
_TIMESTAMP = (
    "its time stamp (kafka.timestamp) is not within the topic's "
    "message.timestamp.before.max.ms and message.timestamp.after.max.ms"
)
_KEY = "it has no key (kafka.key) and the topic has cleanup.policy=compact"
_SIZE = "it is larger than the topic's max.message.bytes"
_ADVICE = {
    32: _TIMESTAMP,
    10: _SIZE,
    18: _SIZE,
    2: "the broker finds it corrupt; before Kafka 2.4 that also says: " + _KEY,
    44: "a policy of the cluster refuses it",
}


def said(bad: RefusedRecord, topic: str, record: int, page: int) -> str:
    """
    One refused record for people.

    Args:
        record, page: Where it stood: in its page, in its poll.
    """
    advice = _ADVICE.get(bad.code, "")
    low = bad.message.lower()
    if not advice and "timestamp" in low:
        advice = _TIMESTAMP
    elif not advice and "key" in low:
        advice = _KEY
    parts = [part for part in (advice, bad.message) if part]
    why = f": {'; '.join(parts)}" if parts else ""
    return (
        f"the broker refuses record {record} of page {page} for topic {topic} "
        f"({verdicts.name(bad.code)}){why}"
    )
