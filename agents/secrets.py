"""Which values are secret, and the mask that stands for them in whatever leaves an agent.

It looks into dicts, lists, tuples, sets, pydantic models and dataclasses; nothing else of a user's is ever touched,
but for its ``repr``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from itertools import islice, pairwise, repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from pydantic import BaseModel

MASK: Final = "**********"
"""What stands in the place of a secret; the same as in the text of a pydantic ``SecretStr``."""

SHORTEST: Final = 4
"""Characters. A shorter secret is not searched for in texts, half of which would be stars; it is masked only where it
stands under its key."""

MOST_VALUES: Final = 10_000
"""So many values of one agent's configuration and ``params`` are looked at; what lies beyond is not found."""

CUT: Final = 500
"""Characters of a text that somebody may have cut off in the middle of a secret; a shorter one is whole."""

DEEPEST: Final = 20
"""Levels of nested containers in which `masked` replaces single values; what lies deeper becomes a text as a whole."""

_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_SECRETS: Final = frozenset(
    {
        *("password", "passwords", "passwd", "passphrase", "secret", "secrets", "credential", "credentials", "token"),
        *("authorization", "bearer", "jwt", "cookie", "cookies", "dsn", "apikey", "apikeys", "apitoken", "authtoken"),
        *("accesskey", "accesstoken", "privatekey", "secretkey"),
    }
)
_LAST_WORDS: Final = frozenset(("pwd", "pass"))
"""Secret as the last word of several, ``db_pwd``; alone they are the working directory, and a keyword."""
_KEYS: Final = frozenset(
    ("api", "private", "access", "encryption", "signing", "auth", "master", "session", "account", "ssh")
)
"""Before ``key``: ``private_key``; not ``public_key``, ``primary_key``, ``sort_key``."""
_MEASURES: Final = frozenset(
    {
        *("count", "counts", "total", "limit", "limits", "budget", "length", "len", "size", "rate", "used"),
        *("rotation", "ttl", "age", "expiry", "expires", "expiration", "timeout", "interval", "seconds", "s", "ms"),
        *("required", "enabled", "type", "name", "names", "file", "path", "endpoint", "policy"),
    }
)
"""As the last word: what is said about a secret is none, ``token_count``."""
_ASPECTS: Final = frozenset(
    ("max", "min", "num", "number", "count", "total", "has", "is", "use", "uses", "needs", "require", "requires")
)
"""As the first word: likewise, ``max_token_length``, ``has_password``."""
_PASSWORD_IN_URL: Final = re.compile(r"://[^/@:\s]*:(\S+)@")
_HARMLESS: Final = frozenset((int, float, bool, complex, type(None)))

Value = TypeVar("Value")


@lru_cache(maxsize=4096)
def looks_secret(key: str) -> bool:
    """Return whether what stands under `key` is to be hidden, by the words of its name. Any thread.

    The name may be written like ``db_password``, ``dbPassword`` or ``DB-PASSWORD``. Counters and other statements
    about secrets are not hidden: ``max_tokens``, ``tokens_total``, ``token_count``, ``has_password``.
    """
    words = [word.lower() for word in _WORD.findall(key)]
    if not words or words[-1] in _MEASURES or (len(words) > 1 and words[0] in _ASPECTS):
        return False
    if len(words) > 1 and words[-1] in _LAST_WORDS:
        return True
    is_key = any(first in _KEYS and second in ("key", "keys") for first, second in pairwise(words))
    return is_key or not _SECRETS.isdisjoint(words)


def secrets_of(config: object, params: Mapping[str, object]) -> frozenset[str]:
    """Return the texts to be hidden wherever this agent's words go. Any thread.

    These are the values of ``SecretStr`` and ``SecretBytes`` fields, and the texts under keys that look like secrets,
    at any depth. Texts of under `SHORTEST` characters are left out, and nothing beyond `MOST_VALUES` values is found.
    """
    return texts_in((config, params))


def texts_in(value: object, *, is_secret: bool = False) -> frozenset[str]:
    """Return the texts to be hidden that are in `value`; all of them if it `is_secret`. See `secrets_of`."""
    from pydantic import BaseModel, Secret, SecretBytes, SecretStr  # here: to ask for names takes less than to load it

    wrapped = (SecretStr, SecretBytes, Secret)
    found: set[str] = set()
    seen: set[tuple[int, bool]] = set()
    todo = [(value, is_secret)]
    for each, hidden in todo:  # which grows meanwhile: what lies deep must not keep what stands on top from being seen
        try:
            if isinstance(each, wrapped):
                each, hidden = each.get_secret_value(), True
            if isinstance(each, (str, bytes, bytearray)):
                if hidden:
                    found.update([each] if isinstance(each, str) else _texts_of_bytes(bytes(each)))
            elif type(each) not in _HARMLESS and (id(each), hidden) not in seen:
                seen.add((id(each), hidden))
                parts = islice(_parts(each, BaseModel), max(0, MOST_VALUES - len(todo)))
                todo += [(part, hidden or looks_secret(key)) for key, part in parts]
        except Exception:  # a weak reference to what is gone, a field that raises
            continue
    return frozenset(text for text in found if len(text) >= SHORTEST and text.strip("*"))


class Masker:
    """Replaces secrets in texts by `MASK`. False when there are none: it then returns each text as it is. Any thread.

    A secret is also found as ``repr``, JSON and URLs write it, each line of one that has several, and the password
    in one that is a URL.
    """

    __slots__ = ("_forms", "_pattern")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Hide these texts."""
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
        self._forms: Final = sorted(forms, key=lambda form: (-len(form), form))  # of two, the longer one is hidden
        self._pattern: Final = re.compile("|".join(map(re.escape, self._forms))) if forms else None

    def __bool__(self) -> bool:
        """Return whether there is anything to hide."""
        return self._pattern is not None

    def __call__(self, text: str) -> str:
        """Return `text` with a mask in place of each secret, and of the beginning of one that was cut off."""
        if self._pattern is None:
            return text
        hidden = self._pattern.sub(MASK, text)
        return self._without_beginning(hidden) if len(text) >= CUT else hidden

    def _without_beginning(self, text: str) -> str:
        for form in self._forms:
            for length in range(min(len(form), len(text)) - 1, SHORTEST - 1, -1):
                if text.endswith(form[:length]):
                    return text[:-length] + MASK
        return text


NO_SECRETS: Final = Masker()


def masked(value: Value, mask: Masker, depth: int = 0) -> Value | object:
    """Return `value` without secrets: those that `mask` knows, and whatever stands under a key that looks secret.

    A container in which nothing is hidden is returned itself, else a copy of it. An object whose ``repr`` holds a
    secret becomes a text.
    """
    kind: type = type(value)
    if kind in _HARMLESS:
        return value
    if kind is str and isinstance(value, str):  # in this order: to ask a dead weak reference for its class raises
        return mask(value)
    if depth < DEEPEST:
        if kind is dict and isinstance(value, dict):
            old = list(value.items())
            new = [_masked_item(key, part, mask, depth + 1) for key, part in old]
            same = all(a is c and b is d for (a, b), (c, d) in zip(old, new, strict=True))
            return value if same else dict(new)
        if kind in (list, tuple, set, frozenset) and isinstance(value, (list, tuple, set, frozenset)):
            parts = list(value)
            hidden = [masked(part, mask, depth + 1) for part in parts]
            return value if all(a is b for a, b in zip(parts, hidden, strict=True)) else kind(hidden)
    return _masked_object(value, mask)


def _masked_item(key: object, value: object, mask: Masker, depth: int) -> tuple[object, object]:
    if type(key) is not str:
        return key, masked(value, mask, depth)
    return mask(key), MASK if looks_secret(key) else masked(value, mask, depth)


def _masked_object(value: object, mask: Masker) -> object:
    own = Masker(texts_in(value))
    if not mask and not own:
        return value
    try:
        text = repr(value)
    except Exception:  # then nobody else will see it either
        return value
    hidden = own(mask(text))
    return value if hidden == text else hidden


def _parts(value: object, model: type[BaseModel]) -> Iterable[tuple[str, object]]:
    """Return what `value` contains, each part with the name that it has there; `model`: pydantic's base class."""
    if isinstance(value, MappingProxyType):
        value = dict(value)
    if isinstance(value, dict):
        return [(key if isinstance(key, str) else "", part) for key, part in list(dict.items(value))]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=False))
    if isinstance(value, (list, tuple, set, frozenset)):
        return zip(repeat(""), tuple(value), strict=False)
    if isinstance(value, model):
        return [*vars(value).items(), *(value.__pydantic_extra__ or {}).items()]
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name, None)) for field in fields(value)]
    return ()


def _texts_of_bytes(value: bytes) -> Iterator[str]:
    yield value.decode(errors="replace")
    yield repr(value)[2:-1]


def _forms(secret: str) -> Iterator[str]:
    """Yield how `secret` may stand in a text."""
    yield from (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="", errors="replace"))
    yield from (line.strip() for line in secret.splitlines())
    if found := _PASSWORD_IN_URL.search(secret):
        yield from (found[1], unquote(found[1]))
