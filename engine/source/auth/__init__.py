"""Auth: credentials, and how a request carries them."""
