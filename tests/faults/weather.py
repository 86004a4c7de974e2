"""What a network does at a moment, and the nft rules that make it so in each node's namespace. Pure.

Packets are dropped where they arrive, so that a sender notices nothing but silence. A node's own traffic (its clients
are beside it) is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

TABLE = "inet davfs_faults"


@dataclass(frozen=True)
class Weather:
    """``deaf``: (from, to) of whom is not heard by whom; ``loss``: (from, to) -> per mille; ``delay``: node -> seconds
    that its packets take each way."""

    deaf: frozenset[tuple[int, int]] = frozenset()
    loss: Mapping[tuple[int, int], int] = field(default_factory=dict)
    delay: Mapping[int, float] = field(default_factory=dict)

    def __or__(self, other: Weather) -> Weather:
        """Both at once."""
        loss = {pair: max(self.loss.get(pair, 0), other.loss.get(pair, 0)) for pair in {*self.loss, *other.loss}}
        delay = {node: max(self.delay.get(node, 0.0), other.delay.get(node, 0.0)) for node in {*self.delay, *other.delay}}
        return Weather(self.deaf | other.deaf, loss, delay)


CALM = Weather()


def parted(one: Iterable[int], numbers: Iterable[int]) -> Weather:
    """Nobody of ``one`` hears anybody else, nor is heard."""
    inside = set(one)
    return Weather(frozenset((a, b) for a in numbers for b in numbers if (a in inside) != (b in inside)))


def rules(number: int, weather: Weather, address: Callable[[int], str]) -> str:
    """What ``nft -f -`` reads in a node's namespace; it replaces what was there at once."""
    drops = [f'iifname "eth0" ip saddr {address(a)} drop' for a, b in sorted(weather.deaf) if b == number]
    drops += [
        f'iifname "eth0" ip saddr {address(a)} numgen random mod 1000 < {lost} drop'
        for (a, b), lost in sorted(weather.loss.items())
        if b == number
    ]
    chain = "\n".join(["type filter hook input priority 0;", *drops])
    return f"table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\nchain arriving {{\n{chain}\n}}\n}}\n"
