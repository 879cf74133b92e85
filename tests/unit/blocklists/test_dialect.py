"""The dialect of lists, row by row: what a line of each format means, or why it is none.

A rule is written as adblock writes it: `a.example` exact, `||a.example^` subtree, `*.a.example` subdomains.
"""

import pytest

from blocklists.listing import Parsed, Rejection, read_list


def read(list_format: str, text: str, *, scope: str | None = None, public_suffixes: bool = False) -> list[str]:
    """Return what a list holds: rules as text, and the reasons of rejections."""
    listing = read_list(text.encode(), format=list_format, scope=scope, allow_public_suffix=public_suffixes)
    return [str(item.rule) if isinstance(item, Parsed) else item.reason.value for item in listing]


HOSTS = [
    ("0.0.0.0 a.example", ["a.example"]),
    ("0.0.0.0 a.example b.example # note", ["a.example", "b.example"]),
    ("127.0.0.1\ta.example", ["a.example"]),
    ("127.8.9.1 a.example", ["a.example"]),
    (":: a.example", ["a.example"]),
    ("::1 a.example", ["a.example"]),
    ("0:0:0:0:0:0:0:0 a.example", ["a.example"]),
    ("::ffff:127.0.0.1 a.example", ["a.example"]),
    ("192.0.2.1 a.example", ["not_a_sink_address"]),
    ("2001:db8::1 a.example", ["not_a_sink_address"]),
    ("192.0.2.1 localhost a.example", ["not_a_sink_address"]),
    ("127.0.0.1 localhost", ["local_name"]),
    ("127.0.0.1 LocalHost", ["local_name"]),
    ("127.0.0.1 localhost.localdomain", ["local_name"]),
    ("::1 ip6-localhost", ["local_name"]),
    ("::1 ip6-localhost ip6-loopback", ["local_name"]),
    ("fe80::1%lo0 localhost", ["local_name"]),
    ("ff02::1 ip6-allnodes", ["local_name"]),
    ("255.255.255.255 broadcasthost", ["local_name"]),
    ("0.0.0.0", ["no_name"]),
    ("192.0.2.1", ["no_name"]),
    ("0.0.0.0 # note", ["no_name"]),
    ("0.0.0.0 0.0.0.0", ["address"]),
    ("0.0.0.0 192.0.2.1", ["address"]),
    ("0.0.0.0 2001:db8::1", ["address"]),
    ("0.0.0.0 http://a.example/", ["url"]),
    ("0.0.0.0 a.example:8080", ["port"]),
    ("0.0.0.0 a.example/path", ["path"]),
    ("0.0.0.0 *.a.example", ["wildcard"]),
    ("0.0.0.0 com", ["public_suffix"]),
    ("0.0.0.0 a.example localhost b.example", ["local_name", "a.example", "b.example"]),
    ("0.0.0.0 -a.example com b.example", ["name", "b.example"]),
    ("a.example", ["syntax"]),
    ("||a.example^", ["syntax"]),
]

DOMAINS = [
    ("a.example", ["||a.example^"]),
    ("  a.example  ", ["||a.example^"]),
    ("a.example # note", ["||a.example^"]),
    ("a.example\t#note", ["||a.example^"]),
    ("http://a.example/", ["url"]),
    ("a.example:8080", ["port"]),
    ("192.0.2.1:443", ["port"]),
    ("a.example/path", ["path"]),
    ("a.example/", ["path"]),
    ("10.0.0.1", ["address"]),
    ("10.0.0.0/8", ["address"]),
    ("2001:db8::1", ["address"]),
    ("2001:db8::/32", ["address"]),
    ("[2001:db8::1]", ["address"]),
    ("192.0.2.1-192.0.2.9", ["address"]),
    ("*.a.example", ["wildcard"]),
    ("a.example b.example", ["syntax"]),
    ("a.example,", ["name"]),
]

WILDCARD = [
    ("*.a.example", ["||a.example^"]),
    (".a.example", ["||a.example^"]),
    ("a.example", ["a.example"]),
    ("*.a.example # note", ["||a.example^"]),
    ("a*.example", ["wildcard"]),
    ("*a.example", ["wildcard"]),
    ("a.*.example", ["wildcard"]),
    ("*.*.example", ["wildcard"]),
    ("*", ["wildcard"]),
    ("*.", ["wildcard"]),
    (".", ["wildcard"]),
    ("*.com", ["public_suffix"]),
    ("*.co.uk", ["public_suffix"]),
    ("*..a.example", ["name"]),
    ("*.a.example b.example", ["syntax"]),
]

ADBLOCK = [
    ("||a.example^", ["||a.example^"]),
    ("||a.example^|", ["||a.example^"]),
    ("||A.Example.^", ["||a.example^"]),
    ("||a.example^ # note", ["||a.example^"]),
    ("||a.example^ # see ## there", ["||a.example^"]),
    ("||a.example", ["pattern"]),
    ("|a.example^", ["pattern"]),
    ("|a.example|", ["pattern"]),
    ("||a.example|", ["pattern"]),
    ("a.example^", ["pattern"]),
    ("a.example|", ["pattern"]),
    ("||a.example^*", ["pattern"]),
    ("||a.example^^", ["pattern"]),
    ("||*.a.example^", ["pattern"]),
    ("*.a.example", ["pattern"]),
    ("||a*.example^", ["pattern"]),
    ("||^", ["pattern"]),
    ("a.example", ["a.example"]),
    ("a.example$important", ["a.example$important"]),
    ("@@||a.example^", ["@@||a.example^"]),
    ("@@||a.example^|", ["@@||a.example^"]),
    ("@@a.example", ["@@a.example"]),
    ("@@||a.example", ["pattern"]),
    ("@@", ["syntax"]),
    ("||a.example^$important", ["||a.example^$important"]),
    ("||a.example^$IMPORTANT", ["||a.example^$important"]),
    ("@@||a.example^$important", ["@@||a.example^$important"]),
    ("||a.example^$badfilter", []),
    ("||a.example^$important,badfilter", []),
    ("||com^$badfilter", []),
    ("||a.example^$denyallow=x.example|y.example", ["||a.example^$denyallow=x.example|y.example"]),
    ("||a.example^$denyallow=X.example.", ["||a.example^$denyallow=x.example"]),
    ("||a.example^$denyallow=-x", ["modifier"]),
    ("||a.example^$denyallow=~x.example", ["modifier"]),
    ("||a.example^$denyallow", ["modifier"]),
    ("||a.example^$denyallow=", ["modifier"]),
    ("||a.example^$dnstype=A", ["||a.example^$dnstype=A"]),
    ("||a.example^$dnstype=a|aaaa", ["||a.example^$dnstype=A|AAAA"]),
    ("||a.example^$dnstype=~A", ["||a.example^$dnstype=~A"]),
    ("||a.example^$dnstype=~A|~AAAA", ["||a.example^$dnstype=~A|~AAAA"]),
    ("||a.example^$dnstype=TYPE65", ["||a.example^$dnstype=HTTPS"]),
    ("||a.example^$dnstype=TYPE65000", ["||a.example^$dnstype=TYPE65000"]),
    ("||a.example^$dnstype=A|~AAAA", ["modifier"]),
    ("||a.example^$dnstype=BOGUS", ["modifier"]),
    ("||a.example^$dnstype=TYPE65536", ["modifier"]),
    ("||a.example^$dnstype=", ["modifier"]),
    ("||a.example^$dnstype", ["modifier"]),
    ("||a.example^$dnstype=A,dnstype=AAAA", ["modifier"]),
    (
        "||a.example^$dnstype=A,denyallow=x.example,important",
        ["||a.example^$important,dnstype=A,denyallow=x.example"],
    ),
    ("||a.example^$all", ["||a.example^"]),
    ("||a.example^$document", ["||a.example^"]),
    ("||a.example^$doc", ["||a.example^"]),
    ("||a.example^$all,important", ["||a.example^$important"]),
    ("||a.example^$~document", ["modifier"]),
    ("||a.example^$all=1", ["modifier"]),
    ("||a.example^$third-party", ["modifier"]),
    ("||a.example^$popup", ["modifier"]),
    ("||a.example^$client=192.0.2.1", ["modifier"]),
    ("||a.example^$ctag=device_phone", ["modifier"]),
    ("||a.example^$dnsrewrite=NXDOMAIN;;", ["modifier"]),
    ("||a.example^$important,third-party", ["modifier"]),
    ("||a.example^$third-party,badfilter", ["modifier"]),
    ("||a.example^$", ["modifier"]),
    ("||a.example^$important,", ["modifier"]),
    ("*$removeparam=id", ["modifier"]),
    (r"/^ads?[0-9]*\./", [r"/^ads?[0-9]*\./"]),
    (r"@@/^ads\.a\.example$/", [r"@@/^ads\.a\.example$/"]),
    (r"/^ads\./$important", [r"/^ads\./$important"]),
    (r"/^ads\./$dnstype=AAAA", [r"/^ads\./$dnstype=AAAA"]),
    (r"/^ads\./$third-party", ["modifier"]),
    ("/" + "a" * 1000 + "/", ["/" + "a" * 1000 + "/"]),
    ("/" + "a" * 1001 + "/", ["regex"]),
    ("/(a/", ["regex"]),
    (r"/(?=a)b/", ["regex"]),
    (r"/(a)\1/", ["regex"]),
    ("/(a{1000}){1000}/", ["regex"]),
    ("/" + r"\pL{1000}" * 100 + "/", ["regex"]),
    (r"/^https?:\/\/ads\./", ["path"]),
    ("/banner/ads/", ["path"]),
    ("a.example##.banner", ["cosmetic"]),
    ("a.example ##.banner", ["cosmetic"]),
    ("a.example#@#.banner", ["cosmetic"]),
    ("a.example#$#body { color: red }", ["cosmetic"]),
    ("a.example#?#div:has(> a)", ["cosmetic"]),
    ("a.example#%#//scriptlet('x')", ["cosmetic"]),
    ("##.banner", ["cosmetic"]),
    ("###banner", ["cosmetic"]),
    ("#@#.banner", ["cosmetic"]),
    ('a.example$$script[tag="x"]', ["cosmetic"]),
    ("a.example%%text", ["cosmetic"]),
    ("/ads/##.banner", ["cosmetic"]),
    ("||a.example/path^", ["path"]),
    ("||a.example/path", ["path"]),
    ("||a.example/path/*^", ["path"]),
    ("||a.example:8080^", ["port"]),
    ("||192.0.2.1^", ["address"]),
    ("|https://a.example^", ["url"]),
    ("||com^", ["public_suffix"]),
    ("||co.uk^", ["public_suffix"]),
    ("||-a.example^", ["name"]),
    ("||a..example^", ["name"]),
    ("||a.example^ ||b.example^", ["syntax"]),
    ("0.0.0.0 a.example", ["syntax"]),
    ("! comment", []),
    ("# comment", []),
    ("## Title", []),
    ("##########", []),
    ("### Title ###", []),
    ("[Adblock Plus]", []),
    ("[Adblock Plus 2.0]", []),
]

DNSMASQ = [
    ("address=/a.example/", ["||a.example^"]),
    ("address=/a.example/#", ["||a.example^"]),
    ("address=/a.example/0.0.0.0", ["||a.example^"]),
    ("address=/a.example/::", ["||a.example^"]),
    ("address=/a.example/127.0.0.1", ["||a.example^"]),
    ("local=/a.example/", ["||a.example^"]),
    ("server=/a.example/", ["||a.example^"]),
    ("server = /a.example/ # note", ["||a.example^"]),
    ("address=/a.example/b.example/0.0.0.0", ["||a.example^", "||b.example^"]),
    ("address=/a.example/com/0.0.0.0", ["public_suffix", "||a.example^"]),
    ("server=/a.example/192.0.2.1", ["forward"]),
    ("server=/a.example/#", ["forward"]),
    ("local=/a.example/192.0.2.1", ["forward"]),
    ("server=192.0.2.1", ["forward"]),
    ("address=/a.example/192.0.2.1", ["not_a_sink_address"]),
    ("address=/a.example/2001:db8::1", ["not_a_sink_address"]),
    ("address=/a.example/b.example", ["syntax"]),
    ("address=/#/0.0.0.0", ["wildcard"]),
    ("address=/*.a.example/0.0.0.0", ["wildcard"]),
    ("address=//0.0.0.0", ["name"]),
    ("address=/a.example", ["syntax"]),
    ("address=", ["syntax"]),
    ("bogus-nxdomain=192.0.2.1", ["syntax"]),
    ("$0/", ["syntax"]),
    ("a.example", ["syntax"]),
]

RPZ = [
    ("a.example CNAME .", ["a.example"]),
    ("a.example 300 IN CNAME .", ["a.example"]),
    ("a.example IN 1h CNAME .", ["a.example"]),
    ("a.example. CNAME .", ["a.example"]),
    ("a.example CNAME *.", ["a.example"]),
    ("a.example CNAME rpz-drop.", ["a.example"]),
    ("a.example cname RPZ-DROP. ; note", ["a.example"]),
    ("a.example A 0.0.0.0", ["a.example"]),
    ("a.example A 192.0.2.1", ["a.example"]),
    ("a.example AAAA ::", ["a.example"]),
    ("*.a.example CNAME .", ["*.a.example"]),
    ("*.a.example A 0.0.0.0", ["*.a.example"]),
    ("a.example CNAME rpz-passthru.", ["@@a.example"]),
    ("*.a.example CNAME rpz-passthru.", ["@@*.a.example"]),
    ("24.0.2.0.192.rpz-ip CNAME .", ["trigger"]),
    ("ns.a.example.rpz-nsdname CNAME .", ["trigger"]),
    ("32.1.2.0.192.rpz-nsip CNAME .", ["trigger"]),
    ("32.1.2.0.192.rpz-client-ip CNAME rpz-passthru.", ["trigger"]),
    ("a.example CNAME rpz-tcp-only.", ["action"]),
    ("a.example CNAME safe.b.example.", ["action"]),
    ("a.example CNAME rpz-passthru", ["action"]),
    ("a.example MX 10 mail.b.example.", ["action"]),
    ("a.example A 192.0.2.300", ["syntax"]),
    ("a.example A ::1", ["syntax"]),
    ("a.example CNAME", ["syntax"]),
    ("a.example BOGUS x", ["syntax"]),
    ("a.example", ["syntax"]),
    ("com CNAME .", ["public_suffix"]),
    ("* CNAME .", ["wildcard"]),
    ("*.*.example CNAME .", ["wildcard"]),
    ("-a.example CNAME .", ["name"]),
    ("$INCLUDE other.zone", ["syntax"]),
    ("$TTL 300", []),
    ("; comment", []),
]

UNBOUND = [
    *((f'local-zone: "a.example" {kind}', ["||a.example^"]) for kind in (
        "always_nxdomain", "always_null", "always_refuse", "refuse", "static", "redirect", "deny", "inform_deny",
        "always_nodata", "always_deny",
    )),
    ('local-zone: "a.example" transparent', ["@@||a.example^"]),
    ('local-zone: "a.example" always_transparent', ["@@||a.example^"]),
    ('local-zone: "a.example." always_null # note', ["||a.example^"]),
    ("local-zone: a.example always_null", ["||a.example^"]),
    ("local-zone: 'a.example' always_null", ["||a.example^"]),
    ('\tlocal-zone:\t"a.example"\tstatic', ["||a.example^"]),
    ('local-zone: "a.example" typetransparent', ["action"]),
    ('local-zone: "a.example" inform', ["action"]),
    ('local-zone: "a.example" nodefault', ["action"]),
    ('local-data: "a.example A 0.0.0.0"', ["action"]),
    ('local-zone: "a.example"', ["syntax"]),
    ('local-zone: "a.example always_null', ["syntax"]),
    ("verbosity: 1", ["syntax"]),
    ("server:", []),
    ('local-zone: "com" always_null', ["public_suffix"]),
    ('local-zone: "." always_null', ["name"]),
]  # fmt: skip


def rows() -> list[object]:
    tables = {
        "hosts": HOSTS,
        "domains": DOMAINS,
        "wildcard": WILDCARD,
        "adblock": ADBLOCK,
        "dnsmasq": DNSMASQ,
        "rpz": RPZ,
        "unbound": UNBOUND,
    }
    return [
        pytest.param(name, line, expected, id=f"{name}: {line[:60]}")
        for name, table in tables.items()
        for line, expected in table
    ]


@pytest.mark.parametrize(("list_format", "line", "expected"), rows())
def test_line_means(list_format: str, line: str, expected: list[str]) -> None:
    assert read(list_format, line) == expected


ONE_NAME = {
    "hosts": "0.0.0.0 {}",
    "domains": "{}",
    "wildcard": "*.{}",
    "adblock": "||{}^",
    "dnsmasq": "address=/{}/",
    "rpz": "{} CNAME .",
    "unbound": 'local-zone: "{}" always_null',
}
LONG = ".".join(["a" * 63] * 4)[:249]  # 253 characters with `.com`
NAMES = [
    ("A.Example", "a.example"),
    ("a.example.", "a.example"),
    ("_dmarc.a.example", "_dmarc.a.example"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("BÜCHER.example", "xn--bcher-kva.example"),
    ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("a。example", "a.example"),
    ("a--b.example", "a--b.example"),
    ("1.example", "1.example"),
    (f"{'a' * 63}.example", f"{'a' * 63}.example"),
    (f"{'a' * 64}.example", "name"),
    (f"{LONG}.com", f"{LONG}.com"),
    (f"b{LONG}.com", "name"),
    ("a..example", "name"),
    (".a..example", "name"),
    ("-a.example", "name"),
    ("a-.example", "name"),
    ("a!b.example", "name"),
    ("a\\.b.example", "name"),
    ("a.example..", "name"),
    ("xn--\u2603-.example", "name"),
    ("192.0.2.1", "address"),
    ("a.example.123", "address"),
    ("com", "public_suffix"),
    ("xxx", "public_suffix"),
    ("co.uk", "public_suffix"),
    ("gob.mx", "public_suffix"),
    ("a.ck", "public_suffix"),
    ("kobe.jp", "public_suffix"),
    ("公司.cn", "public_suffix"),
    ("www.ck", "www.ck"),
    ("github.io", "github.io"),
    ("blogspot.com", "blogspot.com"),
]


@pytest.mark.parametrize("list_format", ONE_NAME)
@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_names_are_read_alike_in_every_format(list_format: str, name: str, expected: str) -> None:
    line = ONE_NAME[list_format].format(name)
    [item] = read_list(line.encode(), format=list_format)
    if isinstance(item, Rejection):
        assert item.reason == expected
    else:
        assert item.rule.name == expected


@pytest.mark.parametrize("list_format", ONE_NAME)
@pytest.mark.parametrize("name", ["com", "co.uk", "a.ck"])
def test_source_may_be_trusted_with_public_suffixes(list_format: str, name: str) -> None:
    line = ONE_NAME[list_format].format(name)
    assert read(list_format, line) == ["public_suffix"]
    [item] = read_list(line.encode(), format=list_format, allow_public_suffix=True)
    assert isinstance(item, Parsed)
    assert item.rule.name == name


def test_local_names_stay_local_where_public_suffixes_are_allowed() -> None:
    assert read("hosts", "127.0.0.1 localhost", public_suffixes=True) == ["local_name"]


@pytest.mark.parametrize(
    ("list_format", "scope", "expected"),
    [
        ("domains", None, "||a.example^"),
        ("domains", "subtree", "||a.example^"),
        ("domains", "exact", "a.example"),
        ("hosts", None, "a.example"),
        ("hosts", "exact", "a.example"),
        ("hosts", "subtree", "||a.example^"),
        ("wildcard", "exact", "||a.example^"),
        ("adblock", "exact", "||a.example^"),
        ("rpz", "subtree", "a.example"),
    ],
)
def test_source_says_how_far_a_name_reaches_where_the_format_does_not(
    list_format: str, scope: str | None, expected: str
) -> None:
    assert read(list_format, ONE_NAME[list_format].format("a.example"), scope=scope) == [expected]


@pytest.mark.parametrize("list_format", ONE_NAME)
@pytest.mark.parametrize(
    "line",
    ["# comment", "#comment", "! comment", "!comment", "[Adblock Plus]", "[Adblock Plus 2.0]", "", "  ", "\t", "#"],
)
def test_comments_blanks_and_headers_say_nothing_in_any_format(list_format: str, line: str) -> None:
    good = ONE_NAME[list_format].format("a.example")
    assert len(read(list_format, f"{line}\n{good}\n{line}")) == 1


@pytest.mark.parametrize("list_format", ONE_NAME)
@pytest.mark.parametrize("comment", [" # note", "\t# note", " #note", " # a.example # b", "   #"])
def test_comment_behind_a_rule_is_cut_off_in_any_format(list_format: str, comment: str) -> None:
    good = ONE_NAME[list_format].format("a.example")
    assert read(list_format, good + comment) == read(list_format, good)
