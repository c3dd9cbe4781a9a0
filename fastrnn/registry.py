"""Find objects by name, as in ``loss="mse"`` or ``{"class_name": "L2", "config": {...}}``."""

from __future__ import annotations

import contextlib
import contextvars
import difflib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

__all__ = [
    "Configurable",
    "Registry",
    "choices",
    "custom_object",
    "made_once",
    "serialize",
    "snake_case",
    "with_custom_objects",
]

#: While a file is read: the user's classes and functions by the names that the file contains.
_custom_objects: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("custom_objects")


@contextlib.contextmanager
def with_custom_objects(table: Mapping[str, Any]) -> Iterator[None]:
    """Within the block, look up names in this table before the library's."""
    token = _custom_objects.set(table)
    try:
        yield
    finally:
        _custom_objects.reset(token)


def made_once(make: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a function that makes a class: the same class for the same arguments, in all threads.

    Where several threads ask for it at the same time, `functools.cache` gives each a class of its own, and of two classes
    of one name pickle refuses one.
    """
    made: dict[tuple[Any, ...], Any] = {}

    @functools.wraps(make)
    def get(*key: Any) -> Any:
        found = made.get(key)
        return made.setdefault(key, make(*key)) if found is None else found

    return get


def custom_object(name: Any) -> Any:
    """Return the object that :func:`with_custom_objects` gives for `name`, or None."""
    return _custom_objects.get({}).get(name) if isinstance(name, str) else None


def snake_case(name: str) -> str:
    """``"SimpleRNN"`` becomes ``"simple_rnn"``, as in Keras's names."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def choices(value: Any, known: Iterable[str]) -> str:
    """Return the end of an error message: the known name nearest to `value`, and all known names."""
    names = sorted(set(known))
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(value).lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[near[0]]!r}? " if near else ""
    return f"{hint}known are {', '.join(map(repr, names))}"


class Configurable:
    """Base class of objects that keep each constructor argument as an attribute of the same name."""

    _config_names: tuple[str, ...] = ()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in self._config_names}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Make an object from what :meth:`get_config` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


def serialize(value: Any) -> Any:
    """Return plain data from which :meth:`Registry.get` makes an equal object."""
    if hasattr(value, "get_config") and not isinstance(value, type):
        return {"class_name": type(value).__name__, "config": value.get_config()}
    return getattr(value, "__name__", value) if callable(value) else value


class Registry:
    """Names of one kind of object.

    Parameters
    ----------
    kind : str
        Name of the kind in messages, such as ``"loss"``.
    classes : iterable of type
        Classes that are found by their names, or by these names in snake case.
    aliases : mapping
        Further names.
    accepts : function, optional
        Returns whether an object is of this kind.
    """

    def __init__(
        self,
        kind: str,
        classes: Iterable[type],
        aliases: Mapping[str, type] | None = None,
        accepts: Callable[[Any], bool] = callable,
    ) -> None:
        self.kind = kind
        self.accepts = accepts
        self.table: dict[str, type] = {}
        #: Classes that configs may name, though users can't: they wrap another object of this kind.
        self.wrappers: dict[str, type] = {}
        for cls in classes:
            self.table[cls.__name__] = cls
            self.table[snake_case(cls.__name__)] = cls
        self.table.update(aliases or {})

    def get(self, identifier: Any, argument: str | None = None) -> Any:
        """Return the object that `identifier` names, or `identifier` itself if it is such an object."""
        argument = argument or self.kind
        if identifier is None:
            return None
        if isinstance(identifier, str):
            found = self._class(identifier, argument)
            return found() if isinstance(found, type) else found
        if isinstance(identifier, Mapping) and "class_name" in identifier:
            name = identifier["class_name"]
            cls = self.wrappers.get(name) or self._class(name, argument)
            return cls.from_config(identifier.get("config", {}))  # type: ignore[union-attr]
        if isinstance(identifier, type):
            identifier = identifier()
        if self.accepts(identifier):
            return identifier
        raise TypeError(
            f"{argument}={identifier!r} can't be used as {self.kind}: give a name, an object or its config; "
            + choices("", self.table)
        )

    def _class(self, name: str, argument: str) -> Any:
        custom = custom_object(name)
        if custom is not None:
            return custom
        if name not in self.table:
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise ValueError(f"{argument}={name!r} is not {article} {self.kind}: {choices(name, self.table)}")
        return self.table[name]
