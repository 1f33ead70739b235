"""The status page: what a person sees who opens the port in a browser."""
