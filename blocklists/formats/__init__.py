"""The formats of lists, in the dialect that the project's documents lay down: one module each.

Owns what a line means. Knows nothing of where a list comes from, nor of what becomes of its rules.
"""

from collections.abc import Mapping

from blocklists.formats.adblock import Adblock
from blocklists.formats.dnsmasq import Dnsmasq
from blocklists.formats.domains import Domains
from blocklists.formats.hosts import Hosts
from blocklists.formats.reader import LineReader
from blocklists.formats.rpz import Rpz
from blocklists.formats.unbound import Unbound
from blocklists.formats.wildcard import Wildcard

READERS: Mapping[str, type[LineReader]] = {
    "hosts": Hosts,
    "domains": Domains,
    "wildcard": Wildcard,
    "adblock": Adblock,
    "dnsmasq": Dnsmasq,
    "rpz": Rpz,
    "unbound": Unbound,
}
