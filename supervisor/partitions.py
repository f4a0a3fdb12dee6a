"""Which partition a key belongs to. Pure. Source: Elixir's PartitionSupervisor, whereis_name/1."""

from __future__ import annotations

from hashlib import blake2b

from orchestree.strategies.errors import NotFound, SpecError


def partition_of(key: int | str | bytes, count: int) -> int:
    """Return the number, from 0 to ``count - 1``, of the partition that `key` belongs to.

    Whole numbers go round; texts and bytes are hashed, the same in every process and on every machine.

    Raises:
        SpecError: `key` is of another type. NotFound: there is no partition.
    """
    if isinstance(key, bool) or not isinstance(key, (int, str, bytes)):
        raise SpecError(f"key={key!r}: must be int, str or bytes")
    if not count:
        raise NotFound(f"key={key!r}: no partition is in use")
    if isinstance(key, int):
        return abs(key) % count
    data = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    return int.from_bytes(blake2b(data, digest_size=8).digest()) % count
