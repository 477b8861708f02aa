"""Which of several agents watches what: an entity, with all that is judged with it, is one agent's.

What a network, a site or a country is, is judged from all its targets. An agent that saw some of them would call the
whole down for its part, so entities are never divided. References are every agent's.

The choice is by jump consistent hashing (Lamping and Veach, 2014, arXiv:1406.2294): every agent comes to the same one
by itself, and when one more agent joins n others, only a share of 1/(n+1) of the entities moves, to the new one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from prober.model import Entity

SHARDS_MAX: Final = 1000
_SHARD: Final = re.compile(r"([0-9]{1,4})/([0-9]{1,4})\Z")
_MASK: Final = (1 << 64) - 1


class Shard(NamedTuple):
    """The `number`th of `of` parts, from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, entity: str) -> bool:
        """Whether the entity of this name is in this part."""
        return owner(entity, self.of) == self.number


def parse_shard(text: str) -> Shard:
    """`2/4`: the second of four. Raises ValueError with the remedy."""
    found = _SHARD.match(text)
    if found is None:
        raise ValueError(f'"{text[:40]}" is no part of a whole; write 1/4 for the first of four')
    number, of = int(found[1]), int(found[2])
    if not 1 <= of <= SHARDS_MAX:
        raise ValueError(f"{of} parts; write 1 to {SHARDS_MAX}")
    if not 1 <= number <= of:
        raise ValueError(f"part {number} of {of}: the first is 1, the last {of}; write one of these")
    return Shard(number, of)


def owner(entity: str, of: int) -> int:
    """The number, from 1, of the part that an entity is in when there are `of`."""
    key = int.from_bytes(hashlib.blake2b(entity.encode(), digest_size=8).digest(), "big")
    number, candidate = 0, 0
    while candidate < of:
        number = candidate
        key = (key * 2862933555777941757 + 1) & _MASK
        candidate = ((number + 1) << 31) // ((key >> 33) + 1)
    return number + 1


def part(entities: Iterable[Entity], shard: Shard) -> tuple[Entity, ...]:
    """The entities of one part, in their order."""
    return tuple(entity for entity in entities if shard.has(entity.name))
