"""Pickling what an agent is started with, and saying beforehand, in words, what cannot reach a process."""

from __future__ import annotations

import copyreg
import io
import multiprocessing.context as std_context
import multiprocessing.reduction as std_reduction
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, Final

from orchestree.agents.executor import Launch
from orchestree.agents.lifecycle import describe
from orchestree.strategies.errors import SpecError

from .by_value import ByValuePickler
from .sources import main_source
from .wire import DESCRIPTORS

if TYPE_CHECKING:
    import multiprocessing.context as context
    import multiprocessing.reduction as reduction
else:
    import multiprocess.context as context
    import multiprocess.reduction as reduction

CONTEXTS: Final = (context, std_context)

inherited: list[int] = []
"""In an agent's process: the descriptors that came with its params."""


@dataclass(frozen=True, slots=True)
class Pickled:
    """Bytes, and the descriptors (still the owners') that have to come along with them."""

    content: bytes
    descriptors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InheritedDescriptor:
    """Stands for a descriptor in what `multiprocessing` and `multiprocess` pickle for a child."""

    index: int

    def detach(self) -> int:
        """Return the descriptor, in the child."""
        return inherited[self.index]


class _Spawning:
    """What `multiprocessing` and `multiprocess` take for the process being started while they pickle."""

    DupFd = InheritedDescriptor

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def duplicate_for_child(self, descriptor: int) -> int:
        self.descriptors.append(descriptor)
        return len(self.descriptors) - 1


def dump(thing: object) -> Pickled:
    """Pickle by reference, or where that fails by value.

    Raises:
        Exception: neither works; any kind of exception, from whatever is being pickled.
    """
    try:
        pickled = _dump(pickle.Pickler, thing)
    except Exception:
        return _dump(ByValuePickler, thing)
    if b"__main__" in pickled.content and main_source() is None:  # nobody else has this __main__
        return _dump(ByValuePickler, thing)
    return pickled


def dump_back(thing: object) -> bytes:
    """Pickle what goes from an agent to the orchestrator. Raises as `dump` does."""
    pickled = dump(thing)
    if pickled.descriptors:
        raise TypeError("open files and connections cannot be sent back")
    return pickled.content


def dump_launch(launch: Launch) -> Pickled:
    """Pickle a launch whole, but for its mask. `params` arrives as a dict."""
    return dump(replace(launch, params=dict(launch.params), mask=None))


def _dump(kind: Callable[[IO[bytes], int], Any], thing: object) -> Pickled:
    buffer = io.BytesIO()
    pickler = kind(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = {**copyreg.dispatch_table, **_reducers(reduction), **_reducers(std_reduction)}
    with _spawning() as spawning:
        pickler.dump(thing)
    return Pickled(buffer.getvalue(), tuple(spawning.descriptors))


def _reducers(module: Any) -> dict[Any, Any]:
    """Return how queues, connections, locks and sockets travel in the eyes of one of the two libraries."""
    table: dict[Any, Any] = module.ForkingPickler._extra_reducers
    return table


@contextmanager
def _spawning() -> Iterator[_Spawning]:
    spawning: Any = _Spawning()
    for library in CONTEXTS:
        library.set_spawning_popen(spawning)
    try:
        yield spawning
    finally:
        for library in CONTEXTS:
            library.set_spawning_popen(None)


def check_payload(launch: Launch) -> None:
    """Return if the launch can be pickled.

    Raises:
        SpecError: it cannot; one line names the key of `params`, the config field or the class, and why.
    """
    try:
        pickled = dump_launch(launch)
    except Exception as error:
        raise SpecError(f"{launch.run.path}: {_culprit(launch, error)}") from None
    if len(pickled.descriptors) > DESCRIPTORS - 3:
        raise SpecError(f"{launch.run.path}: params hold {len(pickled.descriptors)} open files and connections")


def _culprit(launch: Launch, error: Exception) -> str:
    parts = {f"params[{key!r}]": value for key, value in launch.params.items()}
    parts |= {f"config.{name} of {_name(type(launch.config))}": value for name, value in launch.config}
    parts |= {f"the class {_name(cls)}": cls for cls in (launch.agent, type(launch.config))}
    for name, value in parts.items():
        try:
            dump(value)
        except Exception as reason:
            return f"{name} cannot be sent to a process: {_reason(reason)}"
    return f"it cannot be sent to a process: {_reason(error)}"


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _reason(error: Exception) -> str:
    hint = ""
    if "fork context" in str(error):
        hint = '; make it with multiprocess.get_context("spawn")'
    return describe(error) + hint
