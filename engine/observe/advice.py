"""
Advice: what a person does about a failure, in a sentence for each kind.

Owns the sentences that stand beside a failure where nobody has the manual at
hand; `docs/troubleshooting.md` says more of each.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Kind of `observe.failures.KINDS` -> what to do.
ADVICE: Mapping[str, str] = {
    "dns": "Check the host in http.source.url, and the resolver of this machine.",
    "refused": "Nothing listens there: check host and port, and whether the API is up.",
    "unreachable": "There is no way to the host: `check --connect` from this machine "
    "tries it step by step.",
    "timeout": "Raise http.client.request.timeout.ms, or ask for smaller pages.",
    "tls": "Give the authority of the certificate in https.ssl.truststore.location.",
    "cut": "It is asked again by itself; if it lasts, ask for smaller pages or look at "
    "the proxy on the way.",
    "denied": "Check the credentials: `kafka-http-source explain auth` lists their keys.",
    "throttled": "Wait, or ask less often: `kafka-http-source plan --quota` computes "
    "what the API's limit allows.",
    "client_error": "Look at the request with `kafka-http-source preview` and mend the "
    "URL, a parameter or the body.",
    "server_error": "The API is at fault; it is asked again, then at the next poll.",
    "bad_page": "Compare http.response.* with what comes: `kafka-http-source preview` "
    "shows it.",
    "loop": "The API ignores the paging parameter: check the names of pagination.*.",
    "cursor_expired": "Set pagination.cursor.expired, or start anew with "
    "`kafka-http-source offsets reset`.",
    "forbidden": "A rule forbids it; where a key would allow it, the message names the key.",
    "record": "Mend the rule, or set errors.tolerance=all to keep such records as dead "
    "letters.",
    "broker": "Nothing is lost and it is waited for: bring the broker back.",
    "state": "See what is stored with `kafka-http-source offsets get`; `offsets reset` "
    "starts anew.",
    "disk_full": "Make room on the disk; delivery goes on by itself.",
    "configuration": "`kafka-http-source check --connect` names the topic, right or "
    "setting that is missing.",
    "bug": "Please report it with what `--debug` says.",
}


def advice(kind: str) -> str:
    """What to do about a failure of that kind; "" for one that is not known."""
    return ADVICE.get(kind, "")
