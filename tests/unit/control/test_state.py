"""The state directory: its layout and its locks."""

import fcntl
import stat
import threading
from pathlib import Path

import pytest

from control import state as states
from control.errors import AlreadyServingError, StateError
from control.state import StateDirectory


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "var")
    made.create()
    return made


def test_is_made_with_its_parents_and_closed_to_others(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "deep" / "er" / "var")
    state.create()
    for directory in (state.root, state.journal, state.policy, state.run):
        assert stat.S_IMODE(directory.stat().st_mode) & 0o027 == 0
    assert not list(state.run.iterdir())


def test_is_made_again_without_harm(state: StateDirectory) -> None:
    (state.journal / "kept").touch()
    state.create()
    assert (state.journal / "kept").exists()


@pytest.mark.parametrize("part", ["", "run"])
def test_file_in_its_place_is_told_by_the_settings_name(tmp_path: Path, part: str) -> None:
    root = tmp_path / "var"
    if part:
        root.mkdir()
    (root / part).touch()
    with pytest.raises(StateError, match=r"state\.directory: .*var can't be written: "):
        StateDirectory(root).create()


def test_one_supervisor_holds_it(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "TRIES", 1)
    assert not state.is_served()
    with state.serving():
        assert state.is_served()
        with pytest.raises(AlreadyServingError, match="another hallmonitor serves from"), state.serving():
            pass
        assert state.is_served()
    assert not state.is_served()


def test_nothing_there_is_served_by_nobody(tmp_path: Path) -> None:
    assert not StateDirectory(tmp_path / "nowhere").is_served()


def test_whoever_asks_whether_one_serves_keeps_none_from_starting(state: StateDirectory) -> None:
    """A command asks by taking the lock for a moment; a start in that very moment must not fail."""
    ended = threading.Event()

    def ask_on_and_on() -> None:
        while not ended.is_set():
            state.is_served()

    asking = threading.Thread(target=ask_on_and_on)
    asking.start()
    try:
        for _ in range(100):
            with state.serving():
                assert state.is_served()
    finally:
        ended.set()
        asking.join()


def test_named_locks_are_held_one_at_a_time_and_apart(state: StateDirectory) -> None:
    with state.locked("refresh"):
        with pytest.raises(BlockingIOError), state.locked("refresh", wait=False):
            pass
        with state.locked("other", wait=False):
            pass
    with state.locked("refresh", wait=False):
        pass


def test_lock_that_is_waited_for_comes_when_it_is_let_go(state: StateDirectory) -> None:
    order: list[str] = []

    def wait() -> None:
        with state.locked("refresh"):
            order.append("second")

    waiting = threading.Thread(target=wait)
    with state.locked("refresh"):
        waiting.start()
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_no_lock_is_left_to_children(state: StateDirectory) -> None:
    """A worker must not hold the supervisor's lock when that is gone."""
    with state.serving():
        fds = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
        held = [fd for fd in fds if _target(fd).endswith("supervisor.lock")]
        assert held
        assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in held)


def _target(fd: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return ""
