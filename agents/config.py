"""The configuration of an agent: a strict, frozen pydantic model whose mistakes are told in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticUserError,
    Secret,
    SecretBytes,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from orchestree.strategies.errors import SpecError, did_you_mean

from .hiding import masked_part
from .secrets import MASK, Masker, looks_secret, texts_in

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from .base import BaseAgent
else:
    ModelMetaclass = type(BaseModel)

RESERVED_FIELDS: Final = frozenset(
    {
        *("agent", "name", "config", "params", "executor", "restart", "strategy", "backoff", "shutdown"),
        *("start_timeout", "watchdog", "max_memory", "max_age", "depends_on", "significant", "replace_wedged"),
        "standby",
    }
)
"""Names of entry fields: `register_agent` takes both kinds as keywords, so no config field may have one."""
_WRAPPED: Final = (SecretStr, SecretBytes, Secret)


class StrictConfigMeta(ModelMetaclass):
    """Lets a bare ``interval = 5.0`` override an inherited default; the field keeps its type and rules."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> type:
        """Annotate bare overrides like the field they override."""
        annotations = namespace.setdefault("__annotations__", {})
        inherited = {key: field for base in bases for key, field in getattr(base, "model_fields", {}).items()}
        for key in (namespace.keys() & inherited.keys()) - annotations.keys():
            field = inherited[key]
            annotations[key] = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        try:
            return super().__new__(mcs, name, bases, namespace, **options)
        except PydanticUserError as error:
            rule = error.message.partition(". ")[0]
            hint = did_you_mean(rule.partition("`")[2].partition(" ")[0], inherited)
            raise SpecError(f"{namespace.get('__qualname__', name)}: {rule}{hint}") from None


class StrictConfig(BaseModel, metaclass=StrictConfigMeta):
    """Base of everything that a user configures with keywords.

    Unknown keys are errors. Nothing is coerced but int to float, and the name of an enum member, in any case,
    to that member. Instances are frozen: all incarnations of an agent share one.

    Raises:
        SpecError: on construction, one line that names each wrong field, its value unless that is a secret (a
            ``SecretStr``, or the field's name looks like one), and the rule.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, validate_default=True, protected_namespaces=())

    def __init__(self, **values: Any) -> None:
        """Check and take over the fields."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            mask = Masker(_given_secrets(type(self), values))
            problems = _described(error.errors(include_url=False), type(self), mask)
            raise SpecError(f"{self.__repr_name__()}: {problems}") from None
        except PydanticUserError as error:  # an annotation that names nothing
            raise SpecError(f"{self.__repr_name__()}: {error.message.splitlines()[0]}") from None

    @field_validator("*", mode="before")
    @classmethod
    def _enum_member_by_name(cls, value: object, info: ValidationInfo) -> object:
        if type(value) is not str or info.field_name is None:
            return value
        annotation = cls.model_fields[info.field_name].annotation
        kinds = get_args(annotation) or (annotation,)  # of `Mode | None`, or of `Mode`
        enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
        members = {name.lower(): member for enum in enums for name, member in enum.__members__.items()}
        if members and value.lower() not in members and str not in kinds:
            raise ValueError(f"must be one of {', '.join(members)}{did_you_mean(value, members)}")
        return members.get(value.lower(), value)

    def __repr_name__(self) -> str:
        """Return ``Writer.Config``, the name that a user knows it by."""
        return _name(type(self))

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the fields as ``repr`` shows them: what stands under keys that look secret, at any depth, is masked."""
        for name, value in super().__repr_args__():
            yield name, masked_part(name, value)


class AgentConfig(StrictConfig):
    """Base of every `Agent.Config`.

    Raises:
        SpecError: also when a class is made with a field that has the name of an entry field.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Refuse fields that `register_agent` could not tell from its own."""
        if reserved := sorted(cls.model_fields.keys() & RESERVED_FIELDS):
            raise SpecError(f"{cls.__qualname__}: {reserved[0]!r} is an entry field; choose another name")


def build_config(
    agent_class: type[BaseAgent],
    config: AgentConfig | None,
    fields: Mapping[str, object],
    entry_fields: Iterable[str],
) -> AgentConfig:
    """Return the configuration of one agent.

    Args:
        agent_class: the agent's class.
        config: an instance of ``agent_class.Config``; `fields` then override a copy of it, checked again.
        fields: config fields by name.
        entry_fields: what else the caller takes as keywords; used only to suggest a name for an unknown key.

    Raises:
        SpecError: `config` is of another class, a key is unknown, or a field breaks a rule.
    """
    expected, agent = agent_class.Config, _name(agent_class)
    if config is not None and not isinstance(config, expected):
        raise SpecError(
            f"{agent}: config must be a {_name(expected)}, not {_clipped(config, Masker(texts_in(config)))}"
        )
    made = expected if config is None else type(config)
    for key in fields:
        if key not in made.model_fields:
            hint = did_you_mean(key, [*made.model_fields, *entry_fields])
            raise SpecError(f"{agent}: unknown field {key!r}{hint}")
    if config is None:
        return expected(**fields)
    return made(**{**dict(config), **fields}) if fields else config


def _described(details: list[ErrorDetails], model: type[BaseModel], mask: Masker) -> str:
    """Return what is wrong with each field; of one that may be of several types, what each of them wants."""
    problems: dict[str, list[str]] = {}
    for detail in details:
        # Of a union the place goes on with the name of a type, which is nothing that a user wrote.
        is_union = any(other["loc"][:1] == detail["loc"][:1] and other is not detail for other in details)
        is_whole = is_union and len(detail["loc"]) == 2 and detail["type"] not in ("extra_forbidden", "missing")
        field, rule = _describe(detail, detail["loc"][:1] if is_whole else detail["loc"], model, mask)
        problems.setdefault(field, []).append(rule)
    return "; ".join(field + " or ".join(dict.fromkeys(rules)) for field, rules in problems.items())


def _describe(
    detail: ErrorDetails, place: tuple[int | str, ...], model: type[BaseModel], mask: Masker
) -> tuple[str, str]:
    """Return what is wrong with the field at `place`, as the field with its value, and the rule that it breaks."""
    field = ".".join(map(str, place))
    match detail["type"]:
        case "extra_forbidden":
            return f"unknown field {field!r}{did_you_mean(field, model.model_fields)}", ""
        case "missing":
            return f"field {field!r} is required", ""
        case _:
            rule = detail["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
            value = MASK if _is_secret_at(model, detail["loc"]) else _clipped(detail["input"], mask)
            return f"{field}={value}: ", mask(" ".join(rule.split()))


def _clipped(value: object, mask: Masker) -> str:
    text = " ".join(mask(repr(value)).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _kinds(annotation: object) -> Iterator[object]:
    """Yield all that an annotation is made of: of ``SecretStr | None``, ``list[Database]``."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _is_secret(name: str, field: FieldInfo | None) -> bool:
    kinds = _kinds(field.annotation) if field is not None else ()
    return looks_secret(name) or any(isinstance(kind, type) and issubclass(kind, _WRAPPED) for kind in kinds)


def _models(field: FieldInfo | None) -> Iterator[type[BaseModel]]:
    for kind in _kinds(field.annotation) if field is not None else ():
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind


def _is_secret_at(model: type[BaseModel], place: tuple[int | str, ...]) -> bool:
    """Return whether what stands at a place, as pydantic names it, is secret or part of a secret."""
    models = [model]
    for name in map(str, place):
        fields = [fields[name] for fields in (each.model_fields for each in models) if name in fields]
        if _is_secret(name, None) or any(_is_secret(name, field) for field in fields):
            return True
        models = [nested for field in fields for nested in _models(field)] or models
    return False


def _given_secrets(model: type[BaseModel], values: Mapping[str, object]) -> set[str]:
    """Return the texts to be hidden that are in the arguments of a model."""
    found: set[str] = set()
    for name, value in values.items():
        field = model.model_fields.get(name)
        found |= texts_in({name: value}, is_secret=_is_secret(name, field))
        if isinstance(value, dict):
            for nested in _models(field):
                found |= _given_secrets(nested, value)
    return found


def _name(class_: type) -> str:
    return class_.__qualname__.rpartition("<locals>.")[2]
