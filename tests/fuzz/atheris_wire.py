"""Coverage-guided fuzzing of what reads octets from the network, by atheris (libFuzzer).

    python -m tests.fuzz.atheris_wire [--seconds N] [--work DIRECTORY] [TARGET...]

Each target of `tests.fuzz.targets` runs for so long in a process of its own, beginning with the kept corpus. What it
finds on its way stays in the work directory for the next time; an input that fails is there as ``TARGET-crash-...``:
it belongs into the corpus, with what fixes it. Exits 1 when there is one.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).with_name("corpus")
CORPUS_OF = {"answer": "answer", "lookups": "query", "query": "query", "service": "service", "stream": "stream"}
"""Where the kept inputs of each target are."""
SECONDS = 60
LONGEST_INPUT = 1500
SLOWEST_SECONDS = 10
MOST_MEGABYTES = 1024
INSTRUMENTED = ["resolver", "h11", "h2", "hpack", "hyperframe"]


def fuzz(name: str, options: Sequence[str]) -> None:
    """Fuzz one target in this process, which ends with it; options as libFuzzer has them."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz import targets
    with (
        tempfile.TemporaryDirectory(prefix="hallmonitor-fuzz-") as directory,
        targets.lookups(Path(directory)) as whole,
    ):
        target = whole if name == "lookups" else targets.TARGETS[name]
        atheris.Setup([sys.argv[0], *options], target)
        atheris.Fuzz()


def fuzz_apart(name: str, seconds: int, work: Path) -> bool:
    """Fuzz one target in a process of its own; tell whether nothing was found."""
    grown = work / name
    grown.mkdir(parents=True, exist_ok=True)
    print(f"{name}: {seconds} s", flush=True)
    limits = (
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST_INPUT}",
        f"-timeout={SLOWEST_SECONDS}",
        f"-rss_limit_mb={MOST_MEGABYTES}",
        f"-artifact_prefix={work}/{name}-",
        "-print_final_stats=1",
    )
    command = [sys.executable, "-m", "tests.fuzz.atheris_wire", "--one", name, "--", *limits]
    corpora = [str(grown), str(CORPUS / CORPUS_OF[name])]
    return subprocess.run([*command, *corpora], check=False, cwd=ROOT).returncode == 0


def main(arguments: Sequence[str]) -> int:
    """Fuzz the targets, one after the other."""
    if arguments[:1] == ["--one"]:
        fuzz(arguments[1], arguments[3:])
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.atheris_wire",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", choices=[[], *CORPUS_OF], metavar="TARGET", help=", ".join(CORPUS_OF))
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each target")
    parser.add_argument("--work", type=Path, default=ROOT / ".fuzz", help="where what is found is kept")
    options = parser.parse_args(arguments)
    sound = [fuzz_apart(name, options.seconds, options.work.absolute()) for name in options.targets or CORPUS_OF]
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
