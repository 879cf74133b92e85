"""The benchmark of long lists: ours against its budgets, and beside Unbound and dnsmasq with the same names.

The names are those of the real lists beside the checkout, and generated ones up to the number wanted. The servers run
one after the other, on all CPUs; every time is the clock's, so let the machine do nothing else.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks import lists_report, memory, report
from tests.benchmarks.contestants import Upstream
from tests.benchmarks.dataset import REAL_LISTS, Dataset, build
from tests.benchmarks.filters import PEERS
from tests.benchmarks.index import asked, lookup_us
from tests.benchmarks.ours import HallMonitorFilter
from tests.benchmarks.programs import can_compile
from tests.benchmarks.reloading import Examination, examine
from tests.support.dns_client import Address
from tests.support.postgres import NoPostgresError, PostgresServer

NAMES, QUICK_NAMES = 5_000_000, 100_000
PARTS = ("ours", "peers")


def main(arguments: Sequence[str]) -> int:
    """Measure, print the tables, and write them down where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lists", description=__doc__)
    parser.add_argument("--names", type=int, default=NAMES, metavar="N", help="distinct names (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_NAMES:,} names: whether it works")
    parser.add_argument("--postgres", action="store_true", help="refresh into Postgres, too")
    parser.add_argument("--only", choices=PARTS, help="leave the others out")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between the marks of this page")
    options = parser.parse_args(arguments)
    if not can_compile():
        print("a C compiler is needed", file=sys.stderr)
        return 1
    if options.write:
        report.check(options.write, report.LISTS)
    begun, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="hallmonitor-lists-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        dataset = _dataset(directory / "names", QUICK_NAMES if options.quick else options.names)
        upstream = Upstream(directory)
        stack.callback(upstream.close)
        figures: list[lists_report.Figure] = []
        servers: list[Examination] = []
        if options.only != "peers":
            figures, ours = _ours(directory, upstream.address, dataset, postgres=options.postgres)
            servers.append(ours)
        if options.only != "ours":
            servers += _peers(directory, upstream.address, dataset)
    tables = [lists_report.budgets(figures), lists_report.sizes(servers), lists_report.changes(servers)]
    where = report.conditions({one.name: one.version for one in servers}, str(dataset), load)
    print("\n\n".join(report.plain(cells) for cells in tables))
    print(f"\n{where}\n{time.monotonic() - begun:.0f} s in all")
    if options.write:
        text = "\n\n".join(report.markdown(cells) for cells in tables)
        report.write(options.write, report.LISTS, f"{text}\n\n{where}")
    return 0


def _dataset(directory: Path, names: int) -> Dataset:
    if not REAL_LISTS.is_dir():
        print("the real lists are not beside the checkout: generated names alone")
    dataset = build(directory, names)
    print(dataset, flush=True)
    return dataset


def _ours(
    directory: Path, upstream: Address, dataset: Dataset, *, postgres: bool
) -> tuple[list[lists_report.Figure], Examination]:
    """Refresh on each database, and look at the service on SQLite."""
    figures: list[lists_report.Figure] = []
    with contextlib.closing(HallMonitorFilter(directory / "sqlite", upstream, dataset)) as server:
        server.add_sources()
        figures += lists_report.of_refreshes(server.refreshes(), dataset.rules)
        built = server.compile(directory / "index")
        lookups = {what: lookup_us(built.index, names) for what, names in asked(dataset).items()}
        figures += lists_report.of_index(built, lookups)
        if postgres:
            figures += _on_postgres(directory, upstream, dataset)
        found = examine(server, dataset, upstream)
        figures += lists_report.of_service(server.worker_memory(directory), found.reloads[0])
    return figures, found


def _on_postgres(directory: Path, upstream: Address, dataset: Dataset) -> Iterator[lists_report.Figure]:
    try:
        database = PostgresServer()
    except NoPostgresError:
        print("Postgres is not installed: left out")
        return
    with database:
        url = database.create_database()
        with contextlib.closing(HallMonitorFilter(directory / "postgres", upstream, dataset, url)) as server:
            server.add_sources()
            yield from lists_report.of_refreshes(server.refreshes(), dataset.rules)


def _peers(directory: Path, upstream: Address, dataset: Dataset) -> Iterator[Examination]:
    for kind in PEERS:
        needs = kind.needs * dataset.names
        if shutil.which(kind.program) is None:
            print(f"{kind.program} is not installed: {kind.name} is left out")
        elif needs > memory.available():
            print(f"{kind.name} needs {needs / 1e9:.1f} GB for so many names: left out")
        else:
            with contextlib.closing(kind(directory, upstream, dataset)) as server:
                yield examine(server, dataset, upstream)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
