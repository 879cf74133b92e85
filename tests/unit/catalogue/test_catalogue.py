"""What ships: each piece is sound by itself, all pieces fit together, and a district finds in it what it expects."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from blocklists import catalogue
from blocklists.catalogue import CatalogueError, UnknownStarterError
from blocklists.listing import Parsed, read_list
from policy.names import is_within
from policy.rules import Scope
from storage import checks
from storage.sources import MAX_INTERVAL_SECONDS, MIN_INTERVAL_SECONDS, Format

# The words of the protocol that the design is made for.
PROTOCOL = [
    "adult", "violence", "weapons", "drugs", "gambling", "hacking", "piracy", "shopping", "politics", "social", "chat",
]  # fmt: skip
# What schools ask of a filter, and the category that holds it.
ASKED_FOR = {
    "adult": "adult", "violence": "violence", "weapons": "weapons", "drugs": "drugs", "alcohol": "alcohol-tobacco",
    "tobacco": "alcohol-tobacco", "gambling": "gambling", "hate": "hate", "self-harm": "self-harm",
    "hacking": "hacking", "piracy": "piracy", "proxies": "proxies", "bypass": "proxies", "DNS over HTTPS": "doh",
    "malware": "malware", "phishing": "phishing", "mining": "cryptomining", "social media": "social", "chat": "chat",
    "dating": "dating", "games": "games", "streaming": "streaming", "shopping": "shopping", "politics": "politics",
    "advertising": "advertising", "trackers": "trackers", "generative AI": "generative-ai",
}  # fmt: skip
# Names that a school can't do without: no starter list may cover one.
SCHOOL = [
    "accounts.google.com",
    "app.seesaw.me",
    "canvas.instructure.com",
    "classroom.google.com",
    "code.org",
    "collegeboard.org",
    "docs.google.com",
    "drive.google.com",
    "education.minecraft.net",
    "en.wikipedia.org",
    "fonts.gstatic.com",
    "kahoot.it",
    "login.microsoftonline.com",
    "mail.google.com",
    "meet.google.com",
    "microsoft.com",
    "newsela.com",
    "outlook.office.com",
    "quizlet.com",
    "schoology.com",
    "scratch.mit.edu",
    "teams.microsoft.com",
    "update.microsoft.com",
    "www.apple.com",
    "www.khanacademy.org",
    "www.nasa.gov",
    "www.youtube.com",
    "zoom.us",
]


def test_a_category_for_every_word_of_the_protocol() -> None:
    kinds = {category.key: category.kind for category in catalogue.categories()}
    assert [key for key in PROTOCOL if kinds.get(key) != "block"] == []
    assert {key for key, kind in kinds.items() if kind == "allow"} == {
        "education", "sexual-education", "software-updates", "banking",
    }  # fmt: skip


def test_a_category_for_everything_that_schools_ask_for() -> None:
    keys = {category.key for category in catalogue.categories()}
    assert len(keys) >= 40
    assert {word: key for word, key in ASKED_FOR.items() if key not in keys} == {}


@pytest.mark.parametrize("category", catalogue.categories(), ids=lambda category: category.key)
def test_a_category_says_what_it_holds_and_which_clause_it_enforces(category: catalogue.CategoryDefinition) -> None:
    assert all(text.isascii() and text.strip() == text for text in (category.name, category.description))
    assert category.name[0].isupper()
    assert category.description.endswith(".")
    subject, _, rule = category.clause.partition(": ")
    assert subject[0].isupper()
    assert len(rule.split()) >= 3


@pytest.mark.parametrize("category", catalogue.categories(), ids=lambda category: category.key)
def test_something_fills_each_category(category: catalogue.CategoryDefinition) -> None:
    sourced = {source.category for source in catalogue.sources()}
    assert category.key in sourced | {starter.category for starter in catalogue.starters()}


def test_categories_come_the_most_severe_first() -> None:
    severities = [category.severity for category in catalogue.categories()]
    assert severities == sorted(set(severities))


def test_the_database_takes_every_text_as_it_is() -> None:
    for category in catalogue.categories():
        assert checks.key(category.key) == category.key
        for value in (category.name, category.description, category.clause):
            assert checks.text(value, required=True) == value
    for group in catalogue.groups():
        assert checks.key(group.name) == group.name
    for starter in catalogue.starters():
        assert checks.key(starter.key) == starter.key
    for source in catalogue.sources():
        assert checks.key(source.key) == source.key
        assert Format(source.format) != Format.AUTO
        assert MIN_INTERVAL_SECONDS <= source.interval_seconds <= MAX_INTERVAL_SECONDS
        for value in (source.name, source.licence, source.homepage):
            assert checks.text(value, required=True) == value
        assert checks.text(source.location, limit=checks.MAX_LOCATION, required=True) == source.location


def test_students_have_the_widest_filter_and_guests_all_of_it_but_lessons() -> None:
    blocked = {group.name: set(group.blocked) for group in catalogue.groups()}
    assert set(blocked) == {"students", "staff", "guests"}
    assert blocked["staff"] < blocked["students"]
    assert blocked["students"] - blocked["guests"] == {"chat", "cheating", "generative-ai", "politics", "shopping"}
    assert blocked["guests"] < blocked["students"]
    assert {"adult", "malware", "phishing"} <= blocked["staff"]


@pytest.mark.parametrize("starter", catalogue.starters(), ids=lambda starter: starter.category)
def test_a_starter_is_a_sound_list_that_says_what_it_is(starter: catalogue.StarterList) -> None:
    rules = [parsed.rule for parsed in read_list(starter.text.encode(), format="domains") if isinstance(parsed, Parsed)]
    assert [rule.name for rule in rules] == list(starter.names)
    assert {rule.traits.scope for rule in rules} == {Scope.SUBTREE}
    heading = starter.text.splitlines()[1]
    assert "starter" in heading
    assert "not protection" in heading
    assert "catalogue" in heading
    assert starter.key == f"starter-{starter.category}"
    assert catalogue.starter_text(starter.key) == starter.text


def test_starters_show_the_blocking_of_what_students_may_not_reach() -> None:
    listed = {starter.category for starter in catalogue.starters()}
    students = {group.name: set(group.blocked) for group in catalogue.groups()}["students"]
    # A dozen real names would be needed to show these, and would be wrong within weeks.
    assert students - listed == {"mature", "spyware", "scam", "dynamic-dns", "unsafe-search"}


def test_no_starter_covers_a_site_that_a_school_needs() -> None:
    names = [(starter.category, name) for starter in catalogue.starters() for name in starter.names]
    covered = [(category, name) for category, name in names for site in SCHOOL if is_within(site, name)]
    assert covered == []
    assert [name for _, name in names if name.endswith((".edu", ".k12.us", ".gov"))] == []


def test_no_starter_names_what_another_names_too() -> None:
    seen: dict[str, str] = {}
    for starter in catalogue.starters():
        for name in starter.names:
            assert seen.setdefault(name, starter.category) == starter.category


def test_an_unknown_starter_is_said_to_be_unknown() -> None:
    with pytest.raises(UnknownStarterError, match="'starter-knitting'"):
        catalogue.starter_text("starter-knitting")


def test_the_sources_that_were_promised_are_there() -> None:
    keys = {source.key for source in catalogue.sources()}
    assert {
        "ut1-adult", "ut1-gambling", "ut1-social-networks", "ut1-redirector",
        "stevenblack", "stevenblack-gambling", "stevenblack-porn", "stevenblack-social", "stevenblack-fakenews",
        "hagezi-light", "hagezi-normal", "hagezi-pro", "hagezi-tif", "hagezi-gambling", "hagezi-bypass", "hagezi-nsfw",
        "hagezi-social", "oisd-small", "oisd-big", "oisd-nsfw", "blp-porn", "blp-drugs", "urlhaus", "phishing-army",
        "adguard-dns",
    } <= keys  # fmt: skip


def test_a_source_takes_from_its_publisher_what_it_does_not_say_itself() -> None:
    by_key = {source.key: source for source in catalogue.sources()}
    assert by_key["ut1-mixed-adult"] == catalogue.CatalogueSource(
        key="ut1-mixed-adult",
        name="UT1: sites with an adult section",
        location="https://dsi.ut-capitole.fr/blacklists/download/mixed_adult.tar.gz",
        format="ut1",
        category="mature",
        licence="CC BY-SA 4.0",
        homepage="https://dsi.ut-capitole.fr/blacklists/index_en.php",
        interval_seconds=86_400,
        entries=150,
    )
    assert by_key["urlhaus"].location == "https://urlhaus.abuse.ch/downloads/hostfile/"


def test_a_source_has_the_mirrors_that_its_publisher_names() -> None:
    by_key = {source.key: source for source in catalogue.sources()}
    assert by_key["hagezi-pro"].mirrors == (
        "https://gitlab.com/hagezi/mirror/-/raw/main/dns-blocklists/adblock/pro.txt",
        "https://cdn.jsdelivr.net/gh/hagezi/dns-blocklists@latest/adblock/pro.txt",
    )
    assert by_key["adaway"].mirrors == ("https://adaway.org/hosts.txt",)
    assert by_key["ut1"].mirrors == ()
    for source in catalogue.sources():
        for mirror in source.mirrors:
            assert checks.text(mirror, limit=checks.MAX_LOCATION, required=True) == mirror


def test_the_archive_of_all_that_ut1_has_is_there_beside_its_parts() -> None:
    [source] = [source for source in catalogue.sources() if source.key == "ut1"]
    assert source.location == "https://dsi.ut-capitole.fr/blacklists/download/blacklists.tar.gz"
    assert source.format == "ut1"
    assert source.key not in catalogue.directories()


def test_only_two_categories_have_no_source_but_a_starter() -> None:
    sourced = {source.category for source in catalogue.sources()}
    assert {category.key for category in catalogue.categories()} - sourced == {"politics", "self-harm"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a copy of what ships, to spoil."""
    copy = tmp_path / "data"
    shutil.copytree(str(files("blocklists") / "data"), copy)
    return copy


@pytest.mark.parametrize(
    ("file", "before", "after", "problem"),
    [
        ("categories.toml", 'key = "chat"', 'key = "social"', "category 'social' is there twice"),
        ("categories.toml", "severity = 20\n", "severity = 10\n", "severity 10 is there twice"),
        ("categories.toml", "severity = 10\n", "severity = 0\n", "severity 0 is less than 1"),
        ("categories.toml", 'kind = "allow"', 'kind = "maybe"', "kind 'maybe' is none of block, allow"),
        ("categories.toml", 'name = "Adult"', "", "adult: .* missing 1 required .* 'name'"),
        ("categories.toml", 'name = "Adult"', 'name = "Adult"\ncolour = "red"', "adult: .*'colour'"),
        ("groups.toml", 'name = "guests"', 'name = "staff"', "group 'staff' is there twice"),
        ("groups.toml", '"self-harm"', '"knitting"', "'students' blocks 'knitting', which is no category to block"),
        ("groups.toml", '"self-harm"', '"education"', "'students' blocks 'education', which is no category to block"),
        ("catalogue.toml", 'key = "oisd-big"', 'key = "oisd-small"', "source 'oisd-small' is there twice"),
        ("catalogue.toml", 'key = "oisd-big"', 'key = "starter-chat"', "source 'starter-chat' is there twice"),
        ("catalogue.toml", 'file = "big"', 'file = "small"', "location 'https://small.oisd.nl' is there twice"),
        ("catalogue.toml", 'category = "mature"', 'category = "knitting"', "there is no category 'knitting'"),
        ("catalogue.toml", "https://adaway.org/hosts", "http://adaway.org/hosts", "is no https:// location"),
        ("catalogue.toml", "https://adaway.org/hosts.txt", "https://small.oisd.nl", "oisd.nl' is there twice"),
        ("catalogue.toml", 'file = "press", why', 'file = "adult", why', "directory 'adult' is there twice"),
        ("catalogue.toml", 'format = "domains"', 'format = "telegram"', "there is no format 'telegram'"),
        ("catalogue.toml", '"https://phishing.army/d', '"http://phishing.army/d', "is no https:// location"),
        ("catalogue.toml", 'file = "big", ', "", "'https://{}.oisd.nl' is no https:// location"),
        ("starter/chat.txt", "discord.com\n", "dis cord.com\n", "chat.txt: not a domain name"),
        ("starter/chat.txt", "discord.com\n", "Discord.com\n", "chat.txt: 'Discord.com' is not in normal form"),
        ("starter/chat.txt", "discord.com\n", "192.0.2.1\n", "chat.txt: an address"),
        ("starter/chat.txt", "discord.com\n", "signal.org\n", "chat.txt: signal.org stands there twice"),
    ],
)
def test_what_is_wrong_is_said(data: Path, file: str, before: str, after: str, problem: str) -> None:
    text = (data / file).read_text(encoding="utf-8")
    assert before in text
    (data / file).write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(CatalogueError, match=problem.replace("{", r"\{").replace("}", r"\}")):
        catalogue.load(data)


def test_everything_that_is_wrong_is_said_at_once(data: Path) -> None:
    (data / "starter" / "knitting.txt").write_text("# nothing\n")
    (data / "groups.toml").write_text('[[group]]\nname = "x"\ndescription = ""\nblocked = ["banking"]\n')
    with pytest.raises(CatalogueError) as raised:
        catalogue.load(data)
    assert raised.value.problems == [
        "knitting.txt: holds no name",
        "group 'x' blocks 'banking', which is no category to block",
        "source 'starter-knitting': there is no category 'knitting'",
    ]


def test_what_ships_is_loaded_from_any_directory_alike(data: Path) -> None:
    assert catalogue.load(data).sources == catalogue.sources()
