"""The first start on a fresh machine: no configuration, an empty directory, and then a filtering, logging resolver.

It listens where it does by default, so it needs those ports; everywhere but in CI it is left out where they are taken.
"""

import contextlib
import json
import os
import re
import shlex
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.api import call
from tests.support.dns_client import dig
from tests.support.server import COMMAND

DNS, ADMIN = ("127.0.0.1", 5353), ("127.0.0.1", 8053)
TOKEN = re.compile(r"hm_[A-Za-z0-9_-]{20,}")
SECONDS = 120


@dataclass
class Start:
    """One run of `hallmonitor serve` that has come up."""

    out: str
    err: str
    process: subprocess.Popen[bytes]


def environ() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HALLMONITOR_")}
    return kept | {"PATH": f"{COMMAND.parent}:{kept['PATH']}"}


def default_ports_are_free() -> bool:
    try:
        for address, kind in ((DNS, socket.SOCK_DGRAM), (DNS, socket.SOCK_STREAM), (ADMIN, socket.SOCK_STREAM)):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
                sock.bind(address)
    except OSError:
        return False
    return True


def serve(directory: Path, run: str) -> Start:
    out, err = directory.with_name(f"{run}.out"), directory.with_name(f"{run}.err")
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(
            ["hallmonitor", "serve"], stdout=to_out, stderr=to_err, cwd=directory, env=environ(), executable=COMMAND
        )
    try:
        processes.eventually(lambda: "lifts the block" in out.read_text() or process.poll() is not None, SECONDS)
    except AssertionError:
        process.kill()
        process.wait()
        raise
    return Start(out.read_text(), err.read_text(), process)


def end(start: Start) -> int:
    start.process.terminate()
    return start.process.wait(SECONDS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an empty directory to start in."""
    if not default_ports_are_free() and os.environ.get("CI") != "true":
        pytest.skip("somebody has the default ports, 5353 or 8053")
    place = tmp_path_factory.mktemp("fresh") / "here"
    place.mkdir()
    return place


@pytest.fixture(scope="module")
def first(place: Path) -> Iterator[Start]:
    """Give the first start, running."""
    start = serve(place, "first")
    yield start
    if start.process.poll() is None:
        end(start)


def shell(line: str, place: Path) -> str:
    done = subprocess.run(
        line, shell=True, check=False, capture_output=True, text=True, cwd=place, env=environ(), timeout=SECONDS
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def sources(first: Start, place: Path) -> list[dict[str, Any]]:
    """Give every source that the first start knows."""
    return [json.loads(line) for line in shell("hallmonitor sources list --json", place).splitlines()]


def tries(start: Start) -> list[str]:
    """Return the commands to try that a start prints, as a shell takes them."""
    text = start.out.partition("Try:\n")[2].replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_it_says_what_it_serves_and_where(first: Start, place: Path) -> None:
    assert first.process.poll() is None, first.err
    assert re.search(r"DNS\s+127\.0\.0\.1:5353 \(UDP and TCP\)", first.out)
    assert re.search(r"API\s+http://127\.0\.0\.1:8053/api/v1", first.out)
    assert re.search(rf"State\s+{re.escape(str(place / 'var'))}", first.out)
    assert "starter" in first.out
    assert "no protection" in first.out
    assert first.err == "", "nothing is wrong, so nothing is warned of"


def test_it_shows_one_admin_token_and_keeps_only_its_hash(first: Start, place: Path) -> None:
    shown = [line for line in first.out.splitlines() if "shown this once" in line]
    assert len(shown) == 1
    (secret,) = TOKEN.findall(shown[0])
    assert call(ADMIN, "GET", "/exceptions", token=secret).status == 200
    for file in (place / "var").rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it serves: what it writes comes and goes
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_it_creates_its_state_and_nothing_else(first: Start, place: Path) -> None:
    assert [entry.name for entry in place.iterdir()] == ["var"]
    state = place / "var"
    assert {"hallmonitor.db", "journal", "policy", "run"} <= {entry.name for entry in state.iterdir()}
    assert state.stat().st_mode & 0o007 == 0, "what clients look up is nobody else's to read"
    with sqlite3.connect(f"file:{state / 'hallmonitor.db'}?mode=ro", uri=True) as database:
        assert database.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    database.close()


def test_starter_lists_are_loaded_for_every_category_that_has_names(sources: list[dict[str, Any]]) -> None:
    starters = [source for source in sources if source["starter"]]
    assert len(starters) >= 20
    assert all(source["enabled"] and source["rules"] and not source["last_error"] for source in starters)
    assert all(source["key"].startswith("starter") for source in starters), "plainly labelled"
    answer = dig(DNS, "pokerstars.com")
    assert answer.rdata == ["0.0.0.0"]


@pytest.mark.parametrize(
    "host", ["ut1", "stevenblack", "hagezi", "oisd", "blocklistproject|blp", "urlhaus"], ids=lambda host: host[:5]
)
def test_the_catalogue_of_real_sources_is_there_to_enable(sources: list[dict[str, Any]], host: str) -> None:
    found = [source for source in sources if re.search(host, f"{source['key']} {source['location']}", re.IGNORECASE)]
    assert found
    for source in found:
        assert not source["enabled"]
        assert source["location"].startswith("https://")
        assert source["format"]
        assert source["category"]
        assert source["licence"]
        assert source["homepage"].startswith("http")


def test_ut1_is_there_by_category(sources: list[dict[str, Any]]) -> None:
    assert len({source["category"] for source in sources if source["key"].startswith("ut1")}) >= 10


def test_groups_are_there(first: Start, place: Path) -> None:
    groups = [json.loads(line) for line in shell("hallmonitor groups list --json", place).splitlines()]
    assert {group["name"] for group in groups} == {"students", "staff", "guests"}
    assert all("adult" in group["blocked"] for group in groups)


def test_the_three_commands_to_try_do_what_they_say(first: Start, place: Path) -> None:
    sunk, answered, lifted = tries(first)
    assert "0.0.0.0" in shell(sunk, place)
    assert "SERVER: 127.0.0.1#5353" in shell(f"{answered.partition('#')[0]} +time=15 +tries=1", place)
    exception = json.loads(shell(lifted, place))
    assert exception["status"] == "active"
    lookup = json.loads(shell("hallmonitor lookup pokerstars.com --json", place))
    assert (lookup["verdict"], lookup["exception_id"]) == ("exception", exception["id"])
    assert shlex.split(sunk, comments=True)[-1] == "pokerstars.com"


def test_a_source_that_cannot_be_fetched_is_named_and_serving_goes_on(first: Start, place: Path) -> None:
    shell("hallmonitor sources add nowhere http://127.0.0.1:9/list.txt --category games --allow-private", place)
    done = subprocess.run(
        ["hallmonitor", "refresh", "nowhere", "starter-gambling"],
        executable=COMMAND,
        capture_output=True,
        text=True,
        cwd=place,
        env=environ(),
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("hallmonitor:")]
    assert "nowhere" in line
    assert "starter-gambling" not in line
    assert dig(DNS, "bet365.com").rdata == ["0.0.0.0"]
    shell("hallmonitor sources remove nowhere", place)


def test_the_second_start_shows_no_token_and_has_everything(first: Start, place: Path) -> None:
    assert end(first) == 0
    second = serve(place, "second")
    try:
        assert not TOKEN.search(second.out)
        assert "shown this once" not in second.out
        assert len(tries(second)) == 3
        # What the first start's third command made is in force still.
        assert dig(DNS, "pokerstars.com", seconds=8).rdata != ["0.0.0.0"]
        assert dig(DNS, "bet365.com").rdata == ["0.0.0.0"]
        assert call(ADMIN, "GET", "/exceptions", token=TOKEN.findall(first.out)[0]).status == 200
    finally:
        assert end(second) == 0
