"""The kept inputs of the fuzzer: each yields an answer, a refusal or silence, and dnspython reads every reply."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.atheris_wire import CORPUS, CORPUS_OF
from tests.fuzz.targets import TARGETS, Lookups, Target

FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def lookups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lookups]:
    with targets.lookups(tmp_path_factory.mktemp("engine")) as made:
        yield made


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(CORPUS)) for path in FILES])
def test_replayed(path: Path, lookups: Lookups) -> None:
    data = path.read_bytes()
    TARGETS[path.parent.name](data)
    if path.parent.name == "query":
        lookups(data)


def test_a_bug_that_costs_one_lookup_is_an_error_here(lookups: Lookups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resolver.outcomes.decide", None)
    with pytest.raises(AssertionError, match="a lookup from"):
        lookups((CORPUS / "query" / "plain").read_bytes())


def test_every_target_has_its_corpus() -> None:
    assert {path.parent.name for path in FILES} == set(TARGETS) == set(CORPUS_OF.values())


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_target_takes_whatever_is_short(target: Target, lookups: Lookups) -> None:
    for octets in [bytes(length) for length in range(20)] + [b"\xff" * length for length in range(20)]:
        target(octets)
        lookups(octets)
