"""How a message came, by the words that the log uses."""

UDP, TCP, TLS, HTTPS = "udp", "tcp", "tls", "https"
TRANSPORTS = (UDP, TCP, TLS, HTTPS)
