import pytest

from policy.rules import Action
from storage import checks
from storage.errors import InvalidError


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("10.1.2.0/24", "10.1.2.0/24"),
        (" 10.1.2.3 ", "10.1.2.3/32"),
        ("2001:DB8::1", "2001:db8::1/128"),
        ("2001:db8:0:0::/32", "2001:db8::/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
    ],
)
def test_a_network_has_one_form(given: str, stored: str) -> None:
    assert checks.cidr(given) == stored


def test_host_bits_are_refused_with_what_was_meant() -> None:
    with pytest.raises(ValueError, match=r"did you mean 10\.1\.2\.0/24\?"):
        checks.cidr("10.1.2.3/24")


@pytest.mark.parametrize("given", ["", "10.1.2", "10.1.2.0/33", "school", "fe80::1%eth0", "fe80::%1/64", "10.0.0.1/"])
def test_what_is_no_network_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="must be an address or a network"):
        checks.cidr(given)


@pytest.mark.parametrize(("given", "stored"), [("192.0.2.1", "192.0.2.1"), ("2001:DB8:0::1", "2001:db8::1")])
def test_an_address_has_one_form(given: str, stored: str) -> None:
    assert checks.address(given) == stored


@pytest.mark.parametrize("given", ["192.0.2.0/24", "::1%lo", "sink.example"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="must be an IP address"):
        checks.address(given)


@pytest.mark.parametrize("given", ["a", "ut1-adult", "a_1", "0day", "a" * 63])
def test_a_key_is_lower_case_and_short(given: str) -> None:
    assert checks.key(given) == given


@pytest.mark.parametrize("given", ["", "A", "-a", "_a", "a b", "a/b", "é", "a" * 64, "a\n"])
def test_other_keys_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match="must be 1 to 63 of"):
        checks.key(given)


def test_a_domain_may_be_a_public_suffix() -> None:
    assert checks.domain(" CO.uk. ") == "co.uk"
    assert checks.domain("test") == "test"


@pytest.mark.parametrize("given", ["", ".", "a..example", "http://a.example/", "192.0.2.1", "-a.example"])
def test_what_is_no_domain_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="not a domain name"):
        checks.domain(given)


def test_text_loses_the_blanks_around_it() -> None:
    assert checks.text("  for the debate club ") == "for the debate club"


@pytest.mark.parametrize("given", ["a\x00b", "a\x1b[31mb", "a\nb", "half \ud800 pair"])
def test_text_without_control_characters(given: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        checks.text(given)


def test_text_has_a_limit_and_may_be_required() -> None:
    assert checks.text("x" * 500)
    with pytest.raises(ValueError, match="longer than 500"):
        checks.text("x" * 501)
    with pytest.raises(ValueError, match="blank"):
        checks.text(" \t ", required=True)


def test_a_time_in_the_future_is_after_now_and_before_the_end_of_calendars() -> None:
    assert checks.future(11, 10) == 11
    with pytest.raises(ValueError, match="in the future"):
        checks.future(10, 10)
    with pytest.raises(ValueError, match="year 10000"):
        checks.future(checks.LATEST + 1, 10)


def test_an_enumeration_names_its_alternatives() -> None:
    assert checks.one_of(Action, "block") is Action.BLOCK
    with pytest.raises(ValueError, match="must be block or allow, not 'deny'"):
        checks.one_of(Action, "deny")


def test_many_keep_their_order_and_count_once() -> None:
    assert checks.many(["b", "a", "b"], checks.key, limit=2) == ("b", "a")
    with pytest.raises(ValueError, match="more than 2"):
        checks.many(["a", "b", "c"], checks.key, limit=2)


def test_all_problems_are_reported_together() -> None:
    form = checks.Checks()
    assert form.take("key", checks.key, "a") == "a"
    assert form.take("cidr", checks.cidr, "x") is None
    form.refuse("group", "there is no group 'x'")
    with pytest.raises(InvalidError) as raised:
        form.finish()
    assert [problem.field for problem in raised.value.problems] == ["cidr", "group"]
    assert raised.value.field == "cidr"
    assert "; group: there is no group 'x'" in str(raised.value)


def test_no_problem_is_no_error() -> None:
    form = checks.Checks()
    form.take("key", checks.key, "a")
    form.finish()
    assert form.problems == []
