"""Names: one normal form, and keys under which a subtree is a prefix."""

import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from policy.names import AddressNotNameError, InvalidNameError, is_within, key_of, name_of, normalise

EDGE = string.ascii_lowercase + string.digits + "_"
labels = st.builds(
    lambda first, middle, last: first + middle + last,
    st.sampled_from(EDGE),
    st.text(EDGE + "-", max_size=4),
    st.sampled_from([*EDGE, ""]),
).filter(lambda label: not label.endswith("-"))
names = st.lists(labels, min_size=1, max_size=5).map(".".join).filter(lambda name: not name.split(".")[-1].isdigit())
near_names = st.lists(st.sampled_from(["a", "b", "ab", "a-b", "b_"]), min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("given_text", "normal"),
    [
        ("example.test", "example.test"),
        ("WWW.Example.TEST.", "www.example.test"),
        ("_dmarc.example.test", "_dmarc.example.test"),
        ("a_b-c.example.test", "a_b-c.example.test"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example.", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("www.bücher.example\u3002", "www.xn--bcher-kva.example"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("0.example", "0.example"),
        ("3com.example", "3com.example"),
        ("test", "test"),
        ("a" * 63 + ".test", "a" * 63 + ".test"),
        (".".join(["a" * 62] * 4) + ".", ".".join(["a" * 62] * 4)),
        ("a." * 126 + "b", "a." * 126 + "b"),
    ],
)
def test_a_name_has_one_normal_form(given_text: str, normal: str) -> None:
    assert normalise(given_text) == normal


# Of what names are made, and of what they are not.
PIECES = st.sampled_from(
    [*"ab0_9-.XY", "ab", "a-b", "--", "xn--", "a" * 62, "a" * 30, "com", "123", "a1", "1a", "ä", "*"]
)


@given(text=st.one_of(st.lists(PIECES, max_size=12).map("".join), names, st.text(max_size=20)))
@example(text="a" * 57 + ".a-b.c")
@example(text="a" * 64 + ".b")
@example(text="a.b1-")
def test_names_in_ascii_are_what_the_standards_say_label_by_label(text: str) -> None:
    """Whichever way `normalise` takes to find out."""
    assume(text.isascii())
    name = text.lower().removesuffix(".")
    parts = name.split(".")
    sound = len(name) <= 253 and all(
        0 < len(label) <= 63
        and set(label) <= {*string.ascii_lowercase, *string.digits, "-", "_"}
        and not label.startswith("-")
        and not label.endswith("-")
        for label in parts
    )
    if sound and not parts[-1].isdigit():
        assert normalise(text) == name
        return
    with pytest.raises(AddressNotNameError if sound else InvalidNameError) as raised:
        normalise(text)
    assert (type(raised.value) is AddressNotNameError) == sound


@pytest.mark.parametrize("capitals", ["ΒΌΛΟΣ", "ΒΌΛΟΣ.ΒΌΛΟΣ"])
def test_capital_sigma_becomes_no_final_one(capitals: str) -> None:
    """UTS 46 maps it to the other wherever it stands; Python's lower() goes by its place."""
    assert set(normalise(f"{capitals}.example").removesuffix(".example").split(".")) == {"xn--nxasmq6b"}


def test_text_that_is_far_too_long_is_refused_before_it_is_mapped() -> None:
    with pytest.raises(InvalidNameError):
        normalise("ä" * 1_000_000)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        ".example.test",
        "a..test",
        "example.test..",
        "-a.test",
        "a-.test",
        "a" * 64 + ".test",
        "a." * 127 + "b",  # 255 characters
        "a b.test",
        "a\nb.test",
        "example.test\n",
        "a\0b.test",
        "a/b.test",
        "a\\.test",
        "a*.test",
        "*.test",
        "user@example.test",
        "[::1]",
        "2001:db8::1",
        "\u200d.test",
        "a\u202eb.test",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        normalise(text)


@pytest.mark.parametrize("text", ["192.0.2.1", "1", "example.1", "192.0.2.1.", "\uff11\uff19\uff12.0.2.1"])
def test_an_address_is_told_from_a_name(text: str) -> None:
    with pytest.raises(AddressNotNameError):
        normalise(text)


@given(names)
def test_a_normal_form_is_its_own(name: str) -> None:
    assert normalise(name) == name
    assert normalise(name.upper() + ".") == name


@given(st.text(max_size=40))
def test_any_text_is_normalised_for_good_or_refused(text: str) -> None:
    try:
        name = normalise(text)
    except InvalidNameError:
        return
    assert normalise(name) == name
    assert name.isascii()
    assert len(name) <= 253


@given(names)
def test_key_and_name_are_each_others_inverse(name: str) -> None:
    assert name_of(key_of(name)) == name


def test_a_key_reads_from_the_root() -> None:
    assert key_of("www.example.test") == "test.example.www."


@given(near_names, near_names)
def test_within_a_subtree_means_that_the_key_begins_with_its_key(name: str, subtree: str) -> None:
    assert is_within(name, subtree) == key_of(name).startswith(key_of(subtree))


@given(names, labels)
def test_a_label_more_is_within_and_a_longer_label_is_not(name: str, label: str) -> None:
    assert is_within(f"{label}.{name}", name)
    assert not is_within(name, f"{label}.{name}")
    assume(not label.endswith("-"))
    assert not is_within(f"{label}{name}", name)
