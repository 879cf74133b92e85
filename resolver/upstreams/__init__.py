"""Asking upstreams: one exchange for each distinct question, over UDP, TCP, TLS or HTTPS."""
