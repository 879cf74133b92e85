"""Public suffixes, beside another reading of the same data."""

from publicsuffixlist import PublicSuffixList

from blocklists.formats.suffixes import is_public_suffix

OTHER = PublicSuffixList(only_icann=True, accept_unknown=False)
STEMS = [
    *(
        "com",
        "net",
        "io",
        "mx",
        "gob.mx",
        "br",
        "com.br",
        "nom.br",
        "a.nom.br",
        "us",
        "ca.us",
        "k12.ca.us",
        "no",
        "oslo.no",
    ),
    *("uk", "co.uk", "ac.uk", "sch.uk", "a.sch.uk", "jp", "co.jp", "kobe.jp", "city.kobe.jp", "a.kobe.jp"),
    *("ck", "www.ck", "a.ck", "mm", "a.mm", "np", "er", "fk", "bd", "com.bd", "za", "de", "com.de", "eu.org"),
    *("au", "edu.au", "nsw.edu.au", "schools.nsw.edu.au", "xn--55qx5d.cn", "xn--p1ai"),
    *("github.io", "blogspot.com", "s3.amazonaws.com"),
]


def test_agrees_with_another_reading_of_the_list() -> None:
    names = {prefix + stem for stem in STEMS for prefix in ("", "a.", "b.a.", "www.", "city.")}
    names = {name for name in names if "." in name}
    assert len(names) > 200
    assert {name for name in names if is_public_suffix(name)} == {name for name in names if OTHER.is_public(name)}


def test_one_label_is_as_good_as_a_suffix_whether_it_exists_or_not() -> None:
    assert is_public_suffix("com")
    assert is_public_suffix("xxx")
    assert is_public_suffix("nosuchtld")


def test_unknown_and_private_suffixes_are_names_like_others() -> None:
    for name in ("a.nosuchtld", "github.io", "blogspot.com", "a.example"):
        assert not is_public_suffix(name)
