"""Which values are secret, and the mask that stands for them in whatever leaves an agent.

Nothing here looks into objects of a user's own classes, except pydantic models and dataclasses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote

MASK: Final = "**********"
"""What stands in the place of a secret; the same as in the text of a pydantic ``SecretStr``."""

SHORTEST: Final = 4
"""Characters. A shorter secret is not searched for in texts: half of every text would be stars. It is still
masked where it stands under its key."""

MOST_VALUES: Final = 10_000
"""So many values of one agent's configuration and ``params`` are looked at; what lies beyond is not found."""

_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_SECRETS: Final = frozenset(
    "password passwords passwd passphrase secret secrets token credential credentials authorization bearer cookie "
    "cookies jwt dsn apikey apikeys apitoken privatekey accesskey secretkey authtoken accesstoken".split()
)
_LAST_WORDS: Final = frozenset(("pwd", "pass"))
"""Secret as the last word of several: `db_pwd`; alone they are the working directory, and a keyword."""
_KEYS: Final = frozenset("api private access encryption signing auth master session account ssh".split())
"""Before `key`: `private_key`; not `public_key`, `primary_key`, `sort_key`."""
_MEASURES: Final = frozenset(
    "count counts total limit limits budget length len size ttl age expiry expires expiration timeout interval "
    "seconds s ms rate used required enabled type name names file path endpoint policy rotation".split()
)
"""As the last word: what is said about a secret is none, `token_count`."""
_ASPECTS: Final = frozenset("max min num number count total has is use uses needs require requires".split())
"""As the first word: likewise, `max_token_length`, `has_password`."""
_PASSWORD_IN_URL: Final = re.compile(r"://[^/@:\s]*:([^\s]+)@")


@lru_cache(maxsize=4096)
def looks_secret(key: str) -> bool:
    """Return whether what stands under `key` is to be hidden, by the words of its name.

    The name may be written like ``db_password``, ``dbPassword``, ``DB-PASSWORD``. Counters and other statements about
    secrets are not hidden: ``max_tokens``, ``tokens_total``, ``token_count``, ``has_password``. Any thread.
    """
    words = [word.lower() for word in _WORD.findall(key)]
    if not words or words[-1] in _MEASURES or (len(words) > 1 and words[0] in _ASPECTS):
        return False
    pairs = zip(words, words[1:], strict=False)
    return (
        not _SECRETS.isdisjoint(words)
        or any(first in _KEYS and second in ("key", "keys") for first, second in pairs)
        or (len(words) > 1 and words[-1] in _LAST_WORDS)
    )


def secrets_of(config: object, params: Mapping[str, object]) -> frozenset[str]:
    """Return the texts to be hidden wherever this agent's words go.

    These are the values of ``SecretStr`` and ``SecretBytes`` fields, and the texts under keys that look like secrets,
    in dicts, lists, tuples, sets, pydantic models and dataclasses at any depth. Texts of under `SHORTEST` characters
    are left out, and nothing beyond `MOST_VALUES` values is found. Never raises for what is in there.
    """
    found: set[str] = set()
    seen: set[int] = set()
    todo: list[tuple[object, bool]] = [(config, False), (params, False)]
    for _ in range(MOST_VALUES):
        if not todo:
            break
        value, is_secret = todo.pop()
        if callable(reveal := getattr(type(value), "get_secret_value", None)):  # pydantic's, without its import
            value, is_secret = reveal(value), True
        if isinstance(value, (str, bytes, bytearray)):
            if is_secret:
                found.update(_texts(value))
        elif id(value) not in seen:
            seen.add(id(value))
            todo += [(part, is_secret or looks_secret(key)) for key, part in _parts(value)]
    return frozenset(text for text in found if len(text) >= SHORTEST and text.strip("*"))


class Masker:
    """Replaces secrets in texts by `MASK`; false when there are none, and then costs nothing. Any thread.

    A secret is also found as ``repr``, JSON and URLs write it, each line of one that has several, and the password
    in one that is a URL.
    """

    __slots__ = ("_pattern",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Hide these texts."""
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __bool__(self) -> bool:
        """Return whether there is anything to hide."""
        return self._pattern is not None

    def __call__(self, text: str) -> str:
        """Return `text` with a mask in place of each secret."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def _parts(value: object) -> list[tuple[str, object]]:
    """Return what `value` contains, each part with the name that it has there; no method of a user's is called."""
    match value:
        case dict():
            return [(key if isinstance(key, str) else "", part) for key, part in dict.items(value)]
        case MappingProxyType():
            return _parts(dict(value))
        case tuple() if hasattr(value, "_fields"):
            return list(zip(value._fields, value, strict=False))
        case list() | tuple() | set() | frozenset():
            return [("", part) for part in value]
        case _ if hasattr(type(value), "model_fields"):
            return list(vars(value).items())
        case _ if is_dataclass(value) and not isinstance(value, type):
            return [(field.name, getattr(value, field.name, None)) for field in fields(value)]
        case _:
            return []


def _texts(value: str | bytes | bytearray) -> Iterable[str]:
    if isinstance(value, str):
        return (value,)
    return (value.decode(errors="replace"), repr(bytes(value))[2:-1])


def _forms(secret: str) -> Iterable[str]:
    """Yield how `secret` may stand in a text."""
    yield from (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe=""))
    yield from (line.strip() for line in secret.splitlines())
    if found := _PASSWORD_IN_URL.search(secret):
        yield from (found[1], unquote(found[1]))
