"""What `logs search` does beyond one page of the store."""

from typing import Any, cast

from commands.logs import _pages
from querylog.records import Record
from querylog.search import LogQuery
from querylog.store import LogStore, Page


class ThreePages:
    """A store whose every page has two records, and which has three."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def search(self, query: LogQuery) -> Page:
        self.asked.append(query.cursor)
        number = int(query.cursor or 0)
        return Page([cast("Record", (number, place)) for place in range(2)], str(number + 1) if number < 2 else None)


def test_all_pages_are_asked_for_one_after_the_other() -> None:
    store: Any = ThreePages()
    found: list[Any] = list(_pages(cast("LogStore", store), LogQuery()))
    assert found == [(number, place) for number in range(3) for place in range(2)]
    assert store.asked == [None, "1", "2"]


def test_no_page_is_asked_for_before_it_is_needed() -> None:
    store: Any = ThreePages()
    pages = _pages(cast("LogStore", store), LogQuery())
    next(pages)
    assert store.asked == [None]
