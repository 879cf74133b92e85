"""Made-up names that look like those of real lists, as many as are wanted. The same seed gives the same names.

Modelled on 5.4 million names of real lists, which are 21 octets long on average and of which

- two of five stand below another listed name, half of these below one of some hundred hosting platforms, most others
  as the ``www`` of a listed name;
- half are a label directly below a top-level domain, some 11 octets long: words, sometimes with digits or a hyphen;
- one of ten stands below a zone that isn't listed, as ``co.uk`` or a hoster of many;
- some are noise, as malware and shorteners make.

All end in ``.example``, the only top-level domain that nobody can own and that peers resolve like any other.
"""

import random
from collections.abc import Iterator
from itertools import accumulate

BLOCK = 50_000
"""Names drawn at once: drawing one by one takes three times as long."""
WORDS = 40_000
PLATFORMS = 150
ZONES = 2_000

_ONSETS = ["b", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "ch", "st", "tr", "gr", ""]
_VOWELS = ["a", "e", "i", "o", "u", "a", "e", "o", "ee", "ou", "ia"]
_CODAS = ["", "", "", "n", "r", "s", "t", "l", "x", "ng", "ck"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_HOSTS = {"www": 80, "m": 3, "cdn": 3, "mail": 3, "api": 3, "store": 3, "ads": 2, "static": 2, "img": 1}


def names(seed: int = 1) -> Iterator[str]:
    """Yield names without end. A few come twice."""
    maker = _Maker(random.Random(seed))
    yield from maker.platforms
    while True:
        yield from maker.block()


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._words = list({self._word(): None for _ in range(WORDS)})
        self.platforms = [f"{label}.example" for label in self._labels(PLATFORMS)]
        self._by_platform = _falling(PLATFORMS)
        self._zones = [f"{label}.example" for label in self._labels(ZONES)]
        self._by_zone = _falling(ZONES)

    def block(self) -> list[str]:
        """Return some names in no order: parents and those below them."""
        choices = self._chance.choices
        apexes = [f"{label}.example" for label in self._labels(BLOCK * 48 // 100)]
        hosted = self._below(self.platforms, self._by_platform, BLOCK * 20 // 100)
        zoned = self._below(self._zones, self._by_zone, BLOCK * 10 // 100)
        prefixes = choices(list(_HOSTS), list(_HOSTS.values()), k=BLOCK * 22 // 100)
        hosts = [
            f"{prefix}.{parent}" for prefix, parent in zip(prefixes, choices(apexes, k=len(prefixes)), strict=True)
        ]
        made = [*apexes, *hosted, *zoned, *hosts]
        self._chance.shuffle(made)
        return made

    def _below(self, parents: list[str], weights: list[float], count: int) -> list[str]:
        drawn = self._chance.choices(parents, cum_weights=weights, k=count)
        return [f"{label}.{parent}" for label, parent in zip(self._labels(count), drawn, strict=True)]

    def _labels(self, count: int) -> list[str]:
        """Return labels such as people register, and one of twelve that a program did."""
        choices, number = self._chance.choices, self._chance.randrange
        first, second = choices(self._words, k=count), choices(self._words, k=count)
        kinds = choices(("two", "one", "hyphen", "digits", "noise"), (58, 8, 14, 12, 8), k=count)
        labels = []
        for one, two, kind in zip(first, second, kinds, strict=True):
            if kind == "two":
                labels.append(one + two)
            elif kind == "one":
                labels.append(f"{one}{two[:2]}")
            elif kind == "hyphen":
                labels.append(f"{one}-{two}")
            elif kind == "digits":
                labels.append(f"{one}{number(10_000)}")
            else:
                labels.append("".join(choices(_LETTERS, k=10 + number(14))))
        return labels

    def _word(self) -> str:
        pick = self._chance.choice
        return "".join(pick(_ONSETS) + pick(_VOWELS) + pick(_CODAS) for _ in range(pick((1, 1, 1, 2, 2))))


def _falling(count: int) -> list[float]:
    """Return cumulative weights of which the nth is 1/n of the first (Zipf's law)."""
    return list(accumulate(1 / rank for rank in range(1, count + 1)))
