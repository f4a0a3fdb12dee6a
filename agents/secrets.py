"""Which values are secret, and how they are taken out of a text.

It looks into dicts, lists, tuples, sets, pydantic models and dataclasses; nothing else of a user's is ever touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from itertools import islice, pairwise, repeat
from types import MappingProxyType
from typing import Final, cast
from urllib.parse import quote, unquote

MASK: Final = "**********"
"""What stands in the place of a secret; the same as in the text of a pydantic ``SecretStr``."""

SHORTEST: Final = 4
"""Characters. A shorter secret is not searched for in texts, half of which would be stars; it is masked only where it
stands under its key."""

MOST_VALUES: Final = 10_000
"""So many values of one agent's configuration and ``params`` are looked at; what lies beyond is not found."""

CUT: Final = 500
"""Characters of a text that somebody may have cut off in the middle of a secret; a shorter one is whole."""

LONGEST: Final = 65_536
"""Characters, or bytes. Of a longer secret only the beginning is searched for."""

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
HARMLESS: Final = frozenset((int, float, bool, complex, type(None)))
"""Types whose values are no secrets by themselves."""


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
    at any depth.

    What is not found, or found and yet not hidden:
        * a secret under a key that does not look like one (`looks_secret`), or in an object of a user's own class that
          is no dataclass and no pydantic model; a number;
        * one of under `SHORTEST` characters; of a very long one what lies behind the first `LONGEST` characters;
        * what lies beyond the first `MOST_VALUES` values, those on top first;
        * what is put into `params` after the agent was registered (a process looks again for its own log records);
        * another form of a secret than `Masker` knows: base64, upper case, a piece out of its middle;
        * the secrets of another agent, and those that the agent gets by itself: from a file, from the environment;
        * what ``execute()`` returned, in ``AGENT_TERMINATED``; what other loggers than ``self.logger`` write in
          threads and coroutines; what a process prints to the terminal.
    """
    return texts_in((config, params))


def texts_in(value: object, *, is_secret: bool = False) -> frozenset[str]:
    """Return the texts to be hidden that are in `value`; all of them if it `is_secret`. See `secrets_of`."""
    from pydantic import Secret, SecretBytes, SecretStr  # here: to ask for names takes less than to load it

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
                    found.update([each[:LONGEST]] if isinstance(each, str) else _texts_of_bytes(bytes(each[:LONGEST])))
            elif type(each) not in HARMLESS and (id(each), hidden) not in seen:
                seen.add((id(each), hidden))
                parts = islice(_parts(each), max(0, MOST_VALUES - len(todo)))
                todo += [(part, hidden or looks_secret(key)) for key, part in parts]
        except Exception:  # a weak reference to what is gone, a field that raises
            continue
    return frozenset(text for text in found if len(text) >= SHORTEST and text.strip("*"))


class Masker:
    """Replaces secrets in texts by `MASK`. False when there are none: it then returns each text as it is. Any thread.

    A secret is also found as ``repr``, JSON and URLs write it, each line of one that has several, and the password
    in one that is a URL.
    """

    __slots__ = ("_forms",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Hide these texts."""
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
        self._forms: Final = sorted(forms, key=lambda form: (-len(form), form))  # of two, the longer one is hidden

    def __bool__(self) -> bool:
        """Return whether there is anything to hide."""
        return bool(self._forms)

    def __call__(self, text: str) -> str:
        """Return `text` with a mask in place of each secret, and of the beginning of one that was cut off."""
        # One after the other: a regular expression of them all takes far longer to make, and is no faster.
        hidden = text
        for form in self._forms:
            hidden = hidden.replace(form, MASK)
        return self._without_beginning(hidden) if self._forms and len(text) >= CUT else hidden

    def _without_beginning(self, text: str) -> str:
        for form in self._forms:
            begins = form[:SHORTEST]
            at = text.find(begins, max(0, len(text) - len(form) + 1))
            while at >= 0:
                if form.startswith(text[at:]):
                    return text[:at] + MASK
                at = text.find(begins, at + 1)
        return text


NO_SECRETS: Final = Masker()


def named_parts(value: object) -> list[tuple[str, object]] | None:
    """Return the fields of a dataclass, a pydantic model or a named tuple; None for anything else. May raise."""
    kind = type(value)
    if is_dataclass(kind):
        return [(field.name, getattr(value, field.name, None)) for field in fields(kind)]
    if issubclass(kind, tuple):
        return (
            list(zip(kind._fields, cast("tuple[object, ...]", value), strict=False))
            if hasattr(kind, "_fields")
            else None
        )
    declared = getattr(kind, "model_fields", None)  # without an import of pydantic, which costs the CLI 100 ms
    if not isinstance(declared, dict) or not all(type(name) is str for name in declared):
        return None
    extra = getattr(value, "__pydantic_extra__", None) or {}
    return [*((name, getattr(value, name, None)) for name in declared), *extra.items()]


def _parts(value: object) -> Iterable[tuple[str, object]]:
    """Return what `value` contains, each part with the name that it has there. Looks at no more than is taken."""
    if isinstance(value, (dict, MappingProxyType)):
        items = dict.items(value) if isinstance(value, dict) else value.items()
        return ((key if isinstance(key, str) else "", part) for key, part in items)
    if (named := named_parts(value)) is not None:
        return named
    if isinstance(value, (list, tuple, set, frozenset)):
        return zip(repeat(""), value, strict=False)
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
