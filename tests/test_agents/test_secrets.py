"""What is taken for a secret, where it is found, and that no text keeps it."""

from __future__ import annotations

import json
import os
import pickle
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from pydantic import BaseModel, SecretBytes, SecretStr, field_validator, model_validator

from orchestree.agents import Agent
from orchestree.agents.executor import RunId
from orchestree.agents.hiding import masked
from orchestree.agents.log_lines import RecordPatch
from orchestree.agents.process.output import LINE, Printed
from orchestree.agents.secrets import CUT, LONGEST, MASK, MOST_VALUES, NO_SECRETS, Masker, looks_secret, secrets_of
from orchestree.strategies.errors import SpecError

SECRET_NAMES = (
    *("password", "passwd", "db_password", "dbPassword", "DB-PASSWORD", "DATABASE_PASSWORD", "password2"),
    *("old_passwords", "passphrase", "secret", "client_secret", "clientSecret", "secrets", "SECRET_KEY"),
    *("secret_value", "token", "access_token", "accessToken", "OAuthToken", "X-Auth-Token", "token_1"),
    *("refresh.token", "api_key", "apiKey", "APIKey", "X-API-Key", "api_keys", "apikey", "APIKEY", "private_key"),
    *("privatekey", "PrivateKey", "ssh_key", "access_key_id", "aws_secret_access_key", "encryption_key"),
    *("signing_key", "auth_key", "credential", "credentials", "google_credentials", "authorization"),
    *("Authorization", "Proxy-Authorization", "bearer", "dsn", "sentry_dsn", "jwt", "session_cookie", "db_pwd"),
    *("mysqlPwd", "smtp_pass", "password_hash"),
)
OTHER_NAMES = (
    *("max_tokens", "tokens", "tokens_total", "token_count", "tokenCount", "input_tokens", "max_token_length"),
    *("token_limit", "token_ttl", "token_expires", "token_type", "has_password", "is_secret", "use_token"),
    *("password_length", "password_required", "secret_name", "password_file", "token_endpoint", "num_token"),
    *("tokenizer", "tokenize", "secretary", "monkey", "key", "keys", "public_key", "primary_key", "sort_key"),
    *("keyboard", "author", "authority", "pass", "pwd", "PWD", "passenger", "passed", "bypass", "compass", "api"),
    *("private", "access", "name", "path", "dsnx", "accredited", "cookiecutter", "", "_", "1", "ключ"),
)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_that_says_secret_looks_secret(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_counters_and_other_names_do_not_look_secret(name: str) -> None:
    assert not looks_secret(name)


class Login(BaseModel):
    user: str = "bob"
    word: SecretStr = SecretStr("in-a-model")
    raw: SecretBytes = SecretBytes(b"in-bytes")


@dataclass
class Access:
    host: str
    password: str


class Pair(NamedTuple):
    name: str
    token: str


class Keeper(Agent):
    class Config(Agent.Config):
        password: SecretStr | None = None
        api_key: str = ""
        nested: Login | None = None
        plain: str = "nothing-secret"
        size: int = 1
        anything: list[Any] = []  # noqa: RUF012 # pydantic copies it

        @field_validator("api_key")
        @classmethod
        def _is_good(cls, value: str) -> str:
            if value.startswith("bad"):
                raise ValueError(f"{value!r} is no key")
            return value

        @model_validator(mode="after")
        def _fits(self) -> Keeper.Config:
            if self.size == 13 and self.password is not None:
                raise ValueError(f"{self.password.get_secret_value()} brings bad luck")
            return self

    def execute(self) -> None:
        """Do nothing."""


def test_secrets_are_found_in_config_and_params_at_any_depth() -> None:
    config = Keeper.Config(password=SecretStr("hunter2"), api_key="by-its-key", nested=Login())
    params: dict[str, object] = {
        "token": "in-params",
        "list": [{"deep": ({"client_secret": "very-deep"},)}],
        "wrapped": SecretStr("wrapped-here"),
        "access": Access("host", "in-a-dataclass"),
        "pair": Pair("name", "in-a-tuple"),
        "credentials": {"anything": "all-below", "list": ["even-lists"]},
        "view": MappingProxyType({"dsn": "through-a-view"}),
        "max_tokens": "many-many",
        "name": "harmless",
        "password": 12345,
    }
    found = secrets_of(config, params)
    assert found == {
        *("hunter2", "by-its-key", "in-a-model", "in-bytes", "in-params", "very-deep", "wrapped-here"),
        *("in-a-dataclass", "in-a-tuple", "all-below", "even-lists", "through-a-view"),
    }


def test_what_stands_under_a_secret_key_is_found_even_if_it_also_stands_elsewhere() -> None:
    login = {"word": "twice-there"}
    assert secrets_of(None, {"login": login, "credentials": login}) == {"twice-there"}
    assert secrets_of(None, {"credentials": login, "login": login}) == {"twice-there"}


def test_what_is_too_short_or_only_a_mask_is_not_searched_for() -> None:
    assert secrets_of(None, {"password": "abc", "token": "", "secret": MASK, "api_key": "abcd"}) == {"abcd"}


def test_much_data_hides_no_secret_beside_it_and_is_looked_through_up_to_a_bound() -> None:
    data = [str(number) for number in range(MOST_VALUES * 2)]
    assert secrets_of(None, {"token": "beside-it", "data": data}) == {"beside-it"}
    assert secrets_of(None, {"data": data, "token": "beside-it"}) == {"beside-it"}
    assert len(secrets_of(None, {"tokens": data, "secrets": data})) < MOST_VALUES


def test_of_a_huge_mapping_or_list_no_more_than_the_bound_is_looked_at() -> None:
    looked = 0

    def endless() -> Iterator[tuple[str, str]]:
        nonlocal looked
        while True:
            looked += 1
            yield f"{looked}", "x"

    class Huge(Mapping[str, str]):
        def __getitem__(self, key: str) -> str:
            raise KeyError(key)

        def __len__(self) -> int:
            return 10**9

        def __iter__(self) -> Iterator[str]:
            raise AssertionError

        def items(self) -> Any:
            return endless()

    class HugeList(list[str]):
        def __iter__(self) -> Iterator[str]:
            return (text for text, _ in endless())

    assert secrets_of(None, {"token": "beside-it", "huge": MappingProxyType(Huge())}) == {"beside-it"}
    assert secrets_of(None, {"token": "beside-it", "huge": HugeList()}) == {"beside-it"}
    assert looked < 2 * MOST_VALUES


def test_of_a_very_long_secret_the_beginning_is_hidden() -> None:
    for long in ("x" * LONGEST + "y" * LONGEST, b"x" * LONGEST + b"y" * LONGEST):
        (found,) = secrets_of(None, {"credential": long})
        assert found == "x" * LONGEST
        assert Masker([found])(f"with {'x' * LONGEST}y") == f"with {MASK}y"


def test_objects_of_a_user_are_not_touched_and_cannot_do_harm() -> None:
    class Hostile:
        model_fields = 1

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __repr__(self) -> str:
            raise RuntimeError

        def get_secret_value(self) -> str:
            raise AssertionError("this may ask a server far away")

    class Gone:
        pass

    loop: list[object] = []
    loop.append(loop)
    dead = weakref.proxy(Gone())
    params = {"a": Hostile(), "loop": loop, "dead": dead, "token": "found-anyway"}
    assert secrets_of(None, params) == {"found-anyway"}
    mask = Masker(["found-anyway"])
    hidden = masked(params, mask)
    assert isinstance(hidden, dict)
    assert hidden["a"] is params["a"]
    assert "found-anyway" not in repr({**hidden, "a": None, "dead": None})


def test_a_masker_without_secrets_returns_the_very_text() -> None:
    text = "x" * 10
    assert not NO_SECRETS
    assert NO_SECRETS(text) is text
    assert pickle.loads(pickle.dumps(Masker(["hunter2"])))("hunter2!") == f"{MASK}!"


@pytest.mark.parametrize("write", [str, repr, json.dumps, lambda text: quote(text, safe=""), str.splitlines])
def test_a_secret_is_found_however_it_is_written(write: Any) -> None:
    secret = "p'ä\"s\\s\nw/o:r d-second-line"
    written = str(write(secret))
    hidden = Masker([secret])(f"before {written} after")
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")
    assert "second-line" not in hidden
    assert MASK in hidden


def test_of_two_secrets_the_longer_one_is_hidden_whole() -> None:
    assert Masker(["pass", "password"])("the password, the pass") == f"the {MASK}, the {MASK}"


def test_the_password_in_a_url_is_hidden_by_itself() -> None:
    mask = Masker(["postgres://bob:h%40nter2@db.example/main"])
    assert mask("no login with h@nter2 or h%40nter2") == f"no login with {MASK} or {MASK}"
    assert mask("bob at db.example") == "bob at db.example"


def test_the_beginning_of_a_secret_at_which_a_long_text_was_cut_off_is_hidden() -> None:
    mask = Masker(["a-long-secret"])
    assert mask("x" * CUT + "a-long-s") == "x" * CUT + MASK
    assert mask("x a-long-s") == "x a-long-s"


def test_values_are_masked_by_text_and_by_key_and_the_rest_is_the_same_object() -> None:
    mask = Masker(["hunter2"])
    untouched = {"list": [1, "a", {"b": (2.0, None)}], "object": Access("host", "other")}
    assert masked(untouched["list"], mask) is untouched["list"]
    data = {
        "text": "is hunter2",
        "token": 5,
        "deep": [{"password": ["x"]}, ("hunter2", 1), {"hunter2"}],
        "hunter2": 1,
        "bytes": b"hunter2",
        "count": 3,
    }
    assert masked(data, mask) == {
        "text": f"is {MASK}",
        "token": MASK,
        "deep": [{"password": MASK}, (MASK, 1), {MASK}],
        MASK: 1,
        "bytes": f"b'{MASK}'",
        "count": 3,
    }
    assert data["text"] == "is hunter2"


def test_what_stands_under_a_secret_key_of_any_kind_of_container_is_masked_however_short() -> None:
    hidden = masked(
        [Access("host", "x"), Pair("n", "x"), MappingProxyType({"token": 1}), OrderedDict(dsn="")], NO_SECRETS
    )
    assert repr(hidden) == (
        f"[Access(host='host', password='{MASK}'), Pair(name='n', token='{MASK}'), "
        f"{{'token': '{MASK}'}}, {{'dsn': '{MASK}'}}]"
    )
    same = (MappingProxyType({"a": 1}), OrderedDict(a=1), Login())
    assert all(new is old for new, old in zip(masked(same, NO_SECRETS), same, strict=True))  # type: ignore[call-overload]


def test_what_a_broken_object_hides_beside_a_secret_stays_hidden() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    @dataclass
    class Half:
        broken: Broken
        token: str

    assert repr(masked(Half(Broken(), "x"), NO_SECRETS)).endswith("Half(...)")


def test_an_object_that_shows_a_secret_becomes_a_text_without_it() -> None:
    assert masked(Access("host", "other"), NO_SECRETS) == f"Access(host='host', password='{MASK}')".replace(
        "Access(", f"{Access.__qualname__}("
    )
    assert masked(Login(), NO_SECRETS) == Login()
    deep: list[object] = ["hunter2"]
    for _ in range(50):
        deep = [deep]
    assert "hunter2" not in repr(masked(deep, Masker(["hunter2"])))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"password": 12345}, f"Keeper.Config: password={MASK}: must be a valid string"),
        ({"api_key": b"hunter2"}, f"Keeper.Config: api_key={MASK}: must be a valid string"),
        ({"api_key": "bad-hunter2"}, f"Keeper.Config: api_key={MASK}: '{MASK}' is no key"),
        ({"password": "hunter2", "size": "hunter2"}, f"Keeper.Config: size='{MASK}': must be a valid integer"),
        ({"size": "plain"}, "Keeper.Config: size='plain': must be a valid integer"),
    ],
)
def test_a_wrong_field_is_told_without_the_value_of_a_secret(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError) as caught:
        Keeper.Config(**fields)
    assert str(caught.value).startswith(told)
    assert "hunter2" not in str(caught.value)
    assert "12345" not in str(caught.value)


def test_a_rule_over_all_fields_tells_no_secret() -> None:
    with pytest.raises(SpecError) as caught:
        Keeper.Config(password="hunter2", size=13)
    assert "hunter2" not in str(caught.value)
    assert f"{MASK} brings bad luck" in str(caught.value)
    with pytest.raises(SpecError) as caught:
        Keeper.Config(nested={"word": "hunter2", "user": 5})
    assert "hunter2" not in str(caught.value)


def test_a_config_shows_no_secret() -> None:
    config = Keeper.Config(password=SecretStr("hunter2"), api_key="hunter3", anything=[Access("h", "pw"), {"token": 5}])
    assert repr(config) == (
        f"Keeper.Config(password='{MASK}', api_key='{MASK}', nested=None, plain='nothing-secret', size=1, "
        f"anything=[Access(host='h', password='{MASK}'), {{'token': '{MASK}'}}])"
    )
    assert "hunter" not in str(config)


def test_printed_lines_that_are_kept_are_masked_before_they_are_cut_off() -> None:
    (out, write), (err, other) = os.pipe(), os.pipe()
    kept: list[tuple[int, str]] = []
    printed = Printed(out, err, Masker(["hunter2"]), lambda stream, text: kept.append((stream, text)))
    os.write(write, b"x" * (LINE - 3) + b"hunter2\nis hunter2\r\nhunt")
    os.write(other, b"hunter2\n")
    action = printed.read(out)
    os.write(write, b"er2")
    printed.read_rest()
    assert action is not None
    assert b"hunter2" in action.args[0]  # type: ignore[attr-defined]  # what goes to the terminal is not touched
    assert printed.last_lines() == ("x" * (LINE - 3) + "***", f"is {MASK}", MASK, MASK)
    assert kept == [(1, "x" * (LINE - 3) + MASK), (1, f"is {MASK}"), (1, MASK), (2, MASK)]
    for descriptor in (out, write, err, other):
        os.close(descriptor)


def test_a_patch_travels_without_whoever_keeps_the_lines() -> None:
    patch = RecordPatch(RunId("a", 1), Masker(["hunter2"]), lambda *line, **more: None)
    copy = pickle.loads(pickle.dumps(patch))
    assert copy
    assert copy._keep_line is None
    assert copy._mask("hunter2") == MASK
    assert not RecordPatch(RunId("a", 1), NO_SECRETS)
