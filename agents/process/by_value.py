"""The pickler for what no other process can find by name: `dill`, with everything else kept by reference."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import IO, TYPE_CHECKING, Any

from orchestree.agents.config import AgentConfig

from .sources import can_be_found

if TYPE_CHECKING:
    from pickle import _Pickler as DillPickler
else:
    from dill import Pickler as DillPickler


class ByValuePickler(DillPickler):
    """Copies lambdas, closures, local classes and what an interactive session defined; refers to the rest."""

    def __init__(self, file: IO[bytes], protocol: int | None = None) -> None:
        """Write to `file`."""
        super().__init__(file, protocol, byref=False, recurse=True)  # type: ignore[call-arg]

    def reducer_override(self, thing: Any) -> Any:
        """Keep classes and functions as references where possible, and help `dill` where it gives up."""
        if isinstance(thing, ModuleType):
            return importlib.import_module, (thing.__name__,)
        if isinstance(thing, type | FunctionType) and can_be_found(thing):
            return thing.__qualname__
        if isinstance(thing, type) and issubclass(thing, AgentConfig):
            return _rebuild_config, _parts_of_config(thing)
        return NotImplemented


def _parts_of_config(config: type[AgentConfig]) -> tuple[Any, ...]:
    """Return what `_rebuild_config` needs: a finished pydantic class refers to itself too often to be copied."""
    decorators, inherited = config.__pydantic_decorators__, config.__base__.__pydantic_decorators__  # type: ignore[union-attr]
    if decorators.field_validators.keys() - inherited.field_validators.keys() or (
        decorators.model_validators.keys() - inherited.model_validators.keys()
    ):
        raise pickle.PicklingError(f"{config.__qualname__} has validators: define it at the top level of a module")
    fields = {name: config.model_fields[name] for name in config.__annotations__ if name in config.model_fields}
    methods: dict[str, Callable[..., object]] = {
        name: value
        for name, value in vars(config).items()
        if isinstance(value, FunctionType) and value.__qualname__ == f"{config.__qualname__}.{name}"
    }
    body = {
        "__module__": config.__module__,
        "__qualname__": config.__qualname__,
        "__doc__": config.__doc__,
        "__annotations__": {name: field.annotation for name, field in fields.items()},
        "model_config": dict(config.model_config),
    }
    return type(config), config.__name__, config.__bases__, body | fields | methods


def _rebuild_config(kind: Any, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
    return kind(name, bases, body)
