"""
Fetch: the layers around one request, each with the same verb.

Outermost first, and the order is the policy (`task.build.sources.Sources.fetch`):

    Cached      cache     answers without asking, costs nothing
    Guarded     breaker   an open breaker costs no request
    Metered     metered   what became of a request, tries and pauses in it
    Retrying    retry     a page is whole and decodable, or asked for again
    Renewing    (source.auth.renewal) credentials that were rotated
    Balanced    balance   which endpoint
    Limited     limit     every try costs a token
    Http        (source.wire.http1) one request, one complete answer

Knows no socket and no process.
"""
