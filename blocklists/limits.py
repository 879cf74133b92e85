"""What a fetch may take of time, traffic and memory."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """For each location by itself; sizes in octets."""

    download_bytes: int = 256 << 20
    content_bytes: int = 1 << 30
    total_seconds: float = 600
    connect_seconds: float = 10
    idle_seconds: float = 30
    redirects: int = 5
    delays: tuple[float, ...] = (1, 3, 9)
    """Seconds to wait before each further try, more or less by a half. A try that brought much begins them anew."""
    retry_after_seconds: float = 120
    """For how long a server may ask to be left alone. One that asks for longer is not asked again."""
