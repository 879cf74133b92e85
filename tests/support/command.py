"""The command, run as its installed script does, in a process that is forked from one which has loaded it already.

Loading it takes longer than all that most commands do, and tests run hundreds of them.
"""

import os
import resource
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path

_loaded = get_context("forkserver")
_loaded.set_forkserver_preload(["cli", "blocklists.refresh", "storage.migrations"])


def run(
    arguments: Sequence[str], directory: Path, environ: Mapping[str, str], *, seconds: float
) -> tuple[int, str, str]:
    """Run a command in a directory, with nothing to read; return its exit code and what it printed.

    Files may grow in it as long as they may here. Raises `TimeoutError` when it takes longer than that, and ends it.
    """
    with tempfile.TemporaryDirectory(prefix="hallmonitor-command-") as name:
        printed = [Path(name) / stream for stream in ("stdout", "stderr")]
        for path in printed:
            path.touch()
        longest = resource.getrlimit(resource.RLIMIT_FSIZE)
        process = _loaded.Process(target=_run, args=(arguments, directory, dict(environ), printed, longest))
        process.start()
        process.join(seconds)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        process.close()
        out, err = [path.read_text() for path in printed]
    if code is None:
        raise TimeoutError(f"not done within {seconds} s: {' '.join(arguments)}\n{out}\n{err}")
    return code, out, err


def _run(
    arguments: Sequence[str],
    directory: Path,
    environ: Mapping[str, str],
    printed: Sequence[Path],
    longest: tuple[int, int],
) -> None:
    import cli

    for descriptor, path in enumerate([Path(os.devnull), *printed]):
        opened = os.open(path, os.O_RDWR)
        os.dup2(opened, descriptor)
        os.close(opened)
    resource.setrlimit(resource.RLIMIT_FSIZE, longest)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environ)
    cli.main(arguments)
