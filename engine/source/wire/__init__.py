"""Wire: one request becomes one complete answer, over HTTP/1.1 or HTTP/2."""
