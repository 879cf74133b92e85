"""UT1's archives: what becomes of each directory, and of each of its files."""

import io
import tarfile
from collections.abc import Iterable
from typing import Any

import pytest

from blocklists import catalogue
from blocklists.errors import NotAListError
from blocklists.listing import Parsed, Reason, Rejection
from blocklists.unpacking import members as unpacked
from blocklists.ut1 import MAX_DIRECTORIES, ArchivePart, is_ut1, read_archive
from policy.rules import Rule, Scope, Traits

SUBTREE = Traits(Scope.SUBTREE)


def parts(*members: tuple[str, str], **options: Any) -> list[ArchivePart]:
    """Return what is read of an archive of text files."""

    def archive() -> Iterable[tuple[str, bytes]]:
        return [(name, text.encode()) for name, text in members]

    return list(read_archive(archive, **options))


def filed(*members: tuple[str, str]) -> dict[str, str | None]:
    """Return the category of each directory that is taken, and in brackets why the others aren't."""
    return {part.name: f"({part.skipped})" if part.skipped else part.category for part in parts(*members)}


def test_directories_are_filed_under_the_categories_of_the_catalogue() -> None:
    names = ("agressif", "drogue", "publicite", "tricheur", "liste_bu", "bank", "social_networks", "audio-video")
    assert filed(*((f"blacklists/{name}/domains", "a.example\n") for name in names)) == {
        "agressif": "hate",
        "drogue": "drugs",
        "publicite": "advertising",
        "tricheur": "cheating",
        "liste_bu": "education",
        "bank": "banking",
        "social_networks": "social",
        "audio-video": "streaming",
    }


def test_each_file_of_a_directory_is_read_for_what_it_is() -> None:
    [adult, games] = parts(
        ("blacklists/", ""),
        ("blacklists/README", "a.example"),
        ("blacklists/adult/domains", "# note\na.example\n192.0.2.1\nB.Example.\n"),
        ("blacklists/adult/expressions", "(sex|porn)\n\n^a$\n"),
        ("blacklists/adult/urls", "a.example/page\nhttp://b.example/\nc.example\n192.0.2.1/x\n"),
        ("blacklists/adult/usage", "black\nadult\n"),
        ("blacklists/adult/very_restrictive_expression", "x+\n"),
        ("blacklists/games/domains", "g.example"),
    )
    assert (adult.name, adult.category, adult.skipped) == ("adult", "adult", "")
    assert list(adult) == [
        Parsed(2, Rule("a.example", SUBTREE), "adult/domains"),
        Rejection(3, "192.0.2.1", Reason.ADDRESS, "adult/domains"),
        Parsed(4, Rule("b.example", SUBTREE), "adult/domains"),
        Rejection(1, "(sex|porn)", Reason.PATTERN, "adult/expressions"),
        Rejection(3, "^a$", Reason.PATTERN, "adult/expressions"),
        Rejection(1, "a.example/page", Reason.PATH, "adult/urls"),
        Rejection(2, "http://b.example/", Reason.URL, "adult/urls"),
        Rejection(3, "c.example", Reason.URL, "adult/urls"),
        Rejection(4, "192.0.2.1/x", Reason.PATH, "adult/urls"),
        Rejection(1, "x+", Reason.PATTERN, "adult/very_restrictive_expression"),
    ]
    assert [file.format for file in adult.files] == ["ut1"] * 4
    assert list(games) == [Parsed(1, Rule("g.example", SUBTREE), "games/domains")]


def test_directory_that_the_catalogue_does_not_know_is_the_sources_own_unless_it_is_white() -> None:
    assert filed(
        ("x/adult/domains", "a.example"),
        ("x/novelty/domains", "b.example"),
        ("x/black/domains", "c.example"),
        ("x/black/usage", "# of use as either\n BLACK \nwhite\n"),
        ("x/white/domains", "d.example"),
        ("x/white/usage", "#\tgood ones\nwhite\r\nnews\n"),
        ("x/either/usage", "white\nblack\n"),
        ("x/either/domains", "e.example"),
    ) == {
        "adult": "adult",
        "novelty": None,
        "black": None,
        "white": "(unknown, and meant for letting through)",
        "either": "(unknown, and meant for letting through)",
    }


def test_directory_that_the_catalogue_skips_is_not_read() -> None:
    [redirector, malware] = parts(("strict_redirector/domains", "a.example"), ("malware/domains", "b.example"))
    assert redirector.skipped == "the same names as redirector"
    assert (redirector.files, list(redirector)) == ((), [])
    assert [str(item.file) for item in malware] == ["malware/domains"]


def test_usage_says_nothing_of_a_directory_that_the_catalogue_knows() -> None:
    assert filed(("adult/domains", ""), ("adult/usage", "white"), ("games/domains", "")) == {
        "adult": "adult",
        "games": "games",
    }


@pytest.mark.parametrize("name", ["adult", "strict_redirector", "novelty", "liste_bu"])
@pytest.mark.parametrize("above", ["", "blacklists/", "./", "/a/b/"])
def test_only_directory_of_an_archive_is_the_sources_own(above: str, name: str) -> None:
    directory = f"{above}{name}"
    assert filed(
        (f"{directory}/domains", "a.example"), (f"{directory}/urls", "b.example/x"), (f"{directory}/usage", "white")
    ) == {name: None}


def test_files_that_are_in_no_directory_are_one_of_no_name() -> None:
    [part] = parts(("domains", "a.example"), ("urls", "b.example/x"))
    assert (part.name, part.category) == ("", None)
    assert [item.file for item in part] == ["domains", "urls"]


def test_directory_is_named_by_its_way_from_what_all_have_in_common() -> None:
    assert list(filed(("BL/finance/banking/domains", ""), ("BL/adult/domains", ""))) == ["finance/banking", "adult"]
    assert list(filed(("BL/adult/domains", ""), ("BL/domains", ""))) == ["adult", ""]
    assert list(filed(("a/adult/domains", ""), ("b/adult/domains", ""))) == ["a/adult", "b/adult"]


def test_directory_comes_once_it_is_whole_though_its_files_come_between_others() -> None:
    found = parts(
        ("a/domains", "a.example"), ("b/domains", "b.example"), ("b/urls", "b.example/x"), ("a/urls", "a.example/x")
    )
    assert [(part.name, [file.file for file in part.files]) for part in found] == [
        ("b", ["b/domains", "b/urls"]),
        ("a", ["a/domains", "a/urls"]),
    ]


def test_links_of_a_packed_archive_are_not_followed() -> None:
    """UT1's own has some: each names a directory that is there anyway."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in (("blacklists/adult/domains", b"a.example"), ("blacklists/games/domains", b"g.example")):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
        for kind, name, target in (
            (tarfile.SYMTYPE, "blacklists/porn", "adult"),
            (tarfile.SYMTYPE, "blacklists/novelty/domains", "../adult/domains"),
            (tarfile.LNKTYPE, "blacklists/other/domains", "blacklists/adult/domains"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            archive.addfile(link)
    found = read_archive(lambda: unpacked(packed.getvalue(), 1 << 20))
    assert [(part.name, part.category, len(list(part))) for part in found] == [
        ("adult", "adult", 1),
        ("games", "games", 1),
    ]


def test_directory_without_a_list_is_none() -> None:
    assert list(filed(("adult/usage", "black"), ("adult/README", "a.example"), ("games/domains", ""))) == ["games"]


def test_source_says_how_far_names_reach_and_whether_suffixes_may_be_named() -> None:
    [part] = parts(("adult/domains", "a.example\nco.uk"), scope="exact", allow_public_suffix=True)
    exact = Traits(Scope.EXACT)
    assert [item.rule for item in part if isinstance(item, Parsed)] == [Rule("a.example", exact), Rule("co.uk", exact)]


def test_directory_that_cannot_be_named_is_skipped() -> None:
    odd = filed(("a\udcff/domains", ""), ("a\nb/domains", ""), ("x" * 101 + "/domains", ""), ("b/domains", ""))
    why = "(nobody's category has such a name)"
    assert odd == {"a\\udcff": why, "a\\nb": why, "x" * 101: why, "b": None}
    assert filed(("a\0/domains", "")) == {"a\\x00": why}


@pytest.mark.parametrize("members", [[], [("adult/usage", "black")], [("a.txt", "a.example")]])
def test_archive_without_a_list_in_a_directory_is_none(members: list[tuple[str, str]]) -> None:
    with pytest.raises(NotAListError, match="no archive of directories that each hold a list"):
        parts(*members)


def test_archive_of_too_many_directories_is_none() -> None:
    members = [(f"d{number}/domains", "") for number in range(MAX_DIRECTORIES + 1)]
    assert len(parts(*members[1:])) == MAX_DIRECTORIES
    with pytest.raises(NotAListError, match="more than 1,000 directories"):
        parts(*members)


def test_error_of_the_members_is_raised_as_it_is() -> None:
    def broken() -> Iterable[tuple[str, bytes]]:
        yield "adult/domains", b"a.example"
        raise NotAListError("it is damaged")

    with pytest.raises(NotAListError, match="it is damaged"):
        read_archive(broken)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["blacklists/adult/domains", "blacklists/games/domains"], True),
        (["adult/domains", "games/domains", "LICENSE.pdf"], True),
        (["adult/domains", "adult/urls", "adult/usage"], False),
        (["adult/domains", "games/urls"], False),
        (["a/domains.txt", "b/domains.txt"], False),
        (["domains", "adult/domains"], True),
        (["adult/domains", "./adult/domains"], False),
        ([], False),
    ],
)
def test_archive_of_several_categories_is_told_by_its_names(names: list[str], expected: bool) -> None:
    assert is_ut1(names) is expected


def test_each_directory_of_the_catalogue_is_filed_or_skipped_for_a_reason() -> None:
    kinds = {category.key: category.kind for category in catalogue.categories()}
    for name, directory in catalogue.directories().items():
        assert name == directory.name
        assert bool(directory.category) != bool(directory.skipped)
        assert not directory.category or directory.category in kinds


def test_directory_and_the_source_of_it_alone_are_filed_alike() -> None:
    archives = "https://dsi.ut-capitole.fr/blacklists/download/"
    alone = {
        source.location.removeprefix(archives).removesuffix(".tar.gz"): source.category
        for source in catalogue.sources()
        if source.location.startswith(archives) and source.key != "ut1"
    }
    assert alone.items() <= {(name, found.category) for name, found in catalogue.directories().items()}
    assert {source.format for source in catalogue.sources() if source.location.startswith(archives)} == {"ut1"}


def test_what_is_meant_for_letting_through_is_filed_so_or_skipped() -> None:
    white = (
        "liste_bu", "bank", "child", "cleaning", "update", "sexual_education", "educational_games", "liste_blanche",
        "examen_pix", "translation", "download",
    )  # fmt: skip
    allowing = {category.key for category in catalogue.categories() if category.kind == "allow"}
    for name in white:
        directory = catalogue.directories()[name]
        assert directory.skipped or directory.category in allowing
