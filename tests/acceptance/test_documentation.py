"""Every ``console`` example in the documentation is run against a server of its own, and prints what it shows.

``...`` in an example stands for any text. The documentation's ports and paths are those of a first start; here they
are the server's own.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_upstream import FakeUpstream
from tests.support.server import COMMAND, HallMonitor

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/operators-guide.md")
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(page: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a page with what it shows."""
    for block in BLOCK.findall((ROOT / page).read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield command, shown


def matches(shown: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(piece) for piece in shown.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


@pytest.mark.parametrize("page", PAGES)
def test_examples_print_what_they_show(page: str, tmp_path: Path) -> None:
    found = list(examples(page))
    assert found, f"{page} has no example"
    with FakeUpstream() as upstream, HallMonitor(tmp_path, upstreams=[upstream.url]) as server:
        environ = server._environment() | {
            "PATH": f"{COMMAND.parent}:/usr/local/bin:/usr/bin:/bin",
            "HALLMONITOR_CONFIG": str(server.config),
            "TOKEN": server.token,
        }
        for command, shown in found:
            here = command.replace("-p 5353", f"-p {server.dns[1]}").replace(":8053", f":{server.admin[1]}")
            here = here.replace("/tmp/", f"{tmp_path}/")
            done = subprocess.run(
                here, shell=True, env=environ, capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            expected = shown.replace("/tmp/", f"{tmp_path}/")
            assert matches(expected, done.stdout), f"{command}\n--- shown\n{expected}\n--- printed\n{done.stdout}"
