"""Lists for tests: rules written in each format, as the readers are to read them."""

from blocklists.listing import Parsed, Rejection, read_list
from policy.rules import Action, Rule, Scope, Traits

ONE_NAME = {
    "hosts": "0.0.0.0 {}",
    "domains": "{}",
    "wildcard": "*.{}",
    "adblock": "||{}^",
    "dnsmasq": "address=/{}/",
    "rpz": "{} CNAME .",
    "unbound": 'local-zone: "{}" always_null',
}
"""How each format of lines blocks a name, as far as it usually does."""

_BLOCK, _ALLOW = Action.BLOCK, Action.ALLOW
_EXACT, _SUBTREE, _SUBDOMAINS = Scope.EXACT, Scope.SUBTREE, Scope.SUBDOMAINS
_SAYS = {
    "hosts": {(_EXACT, _BLOCK): "0.0.0.0 {}"},
    "domains": {(_SUBTREE, _BLOCK): "{}"},
    "wildcard": {(_SUBTREE, _BLOCK): "*.{}", (_EXACT, _BLOCK): "{}"},
    "dnsmasq": {(_SUBTREE, _BLOCK): "local=/{}/"},
    "rpz": {
        (_EXACT, _BLOCK): "{} CNAME .",
        (_EXACT, _ALLOW): "{} CNAME rpz-passthru.",
        (_SUBDOMAINS, _BLOCK): "*.{} 300 IN CNAME *.",
        (_SUBDOMAINS, _ALLOW): "*.{} CNAME rpz-passthru.",
    },
    "unbound": {
        (_SUBTREE, _BLOCK): 'local-zone: "{}." always_nxdomain',
        (_SUBTREE, _ALLOW): "local-zone: {} transparent",
    },
}


def written(rule: Rule, list_format: str) -> str | None:
    """Return the line that says a rule in a format, None where the format can't say it."""
    if list_format == "adblock":
        return str(rule) if rule.traits.scope is not Scope.SUBDOMAINS or rule.pattern else None
    scope, action, *_ = rule.traits
    line = _SAYS[list_format].get((scope, action))
    if line is None or rule.pattern or rule.traits != Traits(scope, action):
        return None
    return line.format(rule.name)


def read(list_format: str, text: str, *, scope: str | None = None, public_suffixes: bool = False) -> list[str]:
    """Return what a list holds: rules as adblock writes them, and the reasons of rejections."""
    listing = read_list(text.encode(), format=list_format, scope=scope, allow_public_suffix=public_suffixes)
    return [told(item) for item in listing]


def told(item: Parsed | Rejection) -> str:
    """Return a rule as adblock writes it, or the reason of a rejection."""
    return str(item.rule) if isinstance(item, Parsed) else item.reason.value
