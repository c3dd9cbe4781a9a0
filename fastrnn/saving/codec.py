"""Conversion of Python values to plain data for JSON and separate tensors, and back, without running code from a file.

Values that JSON can represent are written directly. Everything else is a table whose key ``"$"`` is the name of its kind,
one of a fixed list of kinds, each with a reader that checks its data. Classes are looked up by name among the library's own,
or among `custom_objects`, which the caller passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastrnn.registry import custom_object

__all__ = ["Decoder", "Encoder", "Kind", "by_name", "custom_name", "register"]

_TAG = "$"


class Kind:
    """A kind of values, with the functions that write and read them.

    Parameters
    ----------
    tag : str
        Name of the kind in files.
    accepts : function of the value
        Returns whether a value is of this kind.
    encode : function of the value, the encoder and the path
        Returns a dict of plain data.
    decode : function of that dict and the decoder
        Returns the value; raises ValueError, TypeError or KeyError for invalid data.
    shared : bool
        Whether references to the same object are read as the same object.
    """

    def __init__(
        self,
        tag: str,
        accepts: Callable[[Any], bool],
        encode: Callable[[Any, Encoder, str], dict[str, Any]],
        decode: Callable[[dict[str, Any], Decoder], Any],
        shared: bool = False,
    ) -> None:
        self.tag, self.accepts, self.encode, self.decode, self.shared = tag, accepts, encode, decode, shared


_KINDS: dict[str, Kind] = {}


def register(*kinds: Kind) -> None:
    """Register kinds. If several kinds accept a value, the one registered last is used."""
    global _KINDS
    _KINDS = {**{kind.tag: kind for kind in kinds}, **_KINDS}


def custom_name(value: Any) -> str | None:
    """The name of a user-defined class or function, or of an object's class; None if it belongs to the library."""
    owner = value if isinstance(value, type) or not hasattr(value, "get_config") else type(value)
    if not (isinstance(owner, type) or callable(owner)):
        owner = type(value)
    module = getattr(owner, "__module__", None) or ""
    return None if module.split(".")[0] in ("fastrnn", "sklearn", "numpy", "builtins") else owner.__name__


class Encoder:
    """Converts values to plain data; arrays are put into `tensors`, by their paths in the value."""

    def __init__(self) -> None:
        self.tensors: dict[str, np.ndarray] = {}
        #: Names of user-defined classes and functions that are needed to read the file.
        self.custom: set[str] = set()
        # Objects that were written, by id; they are kept, so that no other object gets the same id.
        self._written: dict[int, tuple[int, Any]] = {}

    def __call__(self, value: Any, path: str) -> Any:
        """Return plain data for the `value` at `path`; raises TypeError for values that can't be saved."""
        if value is None or isinstance(value, (bool, str)) or type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {_TAG: "float", "value": repr(value)}
        if type(value) is list:
            return [self(item, f"{path}/{i}") for i, item in enumerate(value)]
        if type(value) is dict:
            if all(isinstance(key, str) for key in value) and _TAG not in value:
                return {key: self(item, f"{path}/{key}") for key, item in value.items()}
            pairs = [
                [self(key, f"{path}/{i}/key"), self(item, f"{path}/{i}")]
                for i, (key, item) in enumerate(value.items())
            ]
            return {_TAG: "dict", "items": pairs}
        for kind in _KINDS.values():
            if kind.accepts(value):
                return self._tagged(kind, value, path)
        if "BaseSearchCV" in {base.__name__ for base in type(value).__mro__}:
            raise TypeError(
                f"{path} is a search, {type(value).__name__}, which can't be written to a file: save its best_estimator_"
            )
        raise TypeError(
            f"{path}: {value!r} ({type(value).__name__}) can't be written to a file: use plain data, arrays, objects of "
            "fastrnn, or objects with get_config()"
        )

    def _tagged(self, kind: Kind, value: Any, path: str) -> dict[str, Any]:
        if not kind.shared:
            return {_TAG: kind.tag, **kind.encode(value, self, path)}
        number, _ = self._written.get(id(value), (None, None))
        if number is not None:
            return {_TAG: "same", "number": number}
        number = len(self._written)
        self._written[id(value)] = number, value
        return {_TAG: kind.tag, "number": number, **kind.encode(value, self, path)}

    def tensor(self, array: np.ndarray, path: str) -> str:
        """Keep an array, and return its name in the file."""
        self.tensors[path] = array
        return path

    def need(self, *objects: Any) -> None:
        """Record the user-defined ones of these objects, which the caller of `load` has to pass."""
        self.custom.update(name for name in map(custom_name, objects) if name is not None)


class Decoder:
    """Converts the plain data of an `Encoder` to values.

    Parameters
    ----------
    tensors : dict of str to ndarray
        Arrays are removed from it as they are read.
    """

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.tensors = tensors
        self._read: dict[int, Any] = {}

    def __call__(self, data: Any) -> Any:
        """Return the value; raises ValueError, TypeError or KeyError if `data` was not written by an encoder."""
        if isinstance(data, list):
            return [self(item) for item in data]
        if not isinstance(data, dict):
            return data
        if _TAG not in data:
            return {key: self(item) for key, item in data.items()}
        tag = data[_TAG]
        if tag == "float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[data["value"]]
        if tag == "dict":
            return {self(key): self(item) for key, item in data["items"]}
        if tag == "same":
            return self._read[data["number"]]
        if tag not in _KINDS:
            raise ValueError(f"it has a value of the unknown kind {tag!r}")
        kind = _KINDS[tag]
        value = kind.decode(data, self)
        if kind.shared:
            self._read[int(data["number"])] = value
        return value

    def tensor(self, name: Any) -> np.ndarray:
        """Remove and return the array that `Encoder.tensor` kept under this name."""
        return self.tensors.pop(name)


def _register_plain() -> None:
    """Register the kinds of NumPy and Python."""

    def encode_array(value: np.ndarray, encoder: Encoder, path: str) -> dict[str, Any]:
        kind = value.dtype.kind
        if kind in "biuf" and value.dtype.itemsize <= 8:
            return {"name": encoder.tensor(value, path), "as": value.dtype.newbyteorder("=").str[1:]}
        if kind in "mM":
            return {"name": encoder.tensor(value.view(np.int64), path), "as": value.dtype.str[1:]}
        if kind in "UO":
            items = [encoder(item, f"{path}/{i}") for i, item in enumerate(value.reshape(-1).tolist())]
            return {
                "items": items,
                "shape": list(value.shape),
                "as": value.dtype.str[1:] if kind == "U" else "O",
            }
        raise TypeError(f"{path}: an array of dtype {value.dtype} can't be written to a file")

    def decode_array(data: dict[str, Any], decoder: Decoder) -> np.ndarray:
        form = data["as"]
        if "name" in data:
            array = decoder.tensor(data["name"])
            if form[0] in "mM":
                return array.view(np.dtype(form))
            if array.dtype.str[1:] != form:
                raise ValueError(f"an array is of dtype {array.dtype}, not of {form}")
            return array
        items, shape = data["items"], tuple(data["shape"])
        if form != "O":
            if form[0] != "U" or not all(
                isinstance(item, str) and len(item) <= int(form[1:]) for item in items
            ):
                raise ValueError("an array of strings has elements of other types")
            # NumPy allocates the stated length for each element.
            if int(form[1:]) > max(map(len, items), default=0) + 1024:
                raise ValueError("an array of strings states a length far above that of its elements")
            return np.array(items, dtype=form).reshape(shape)
        array = np.empty(len(items), object)
        for i, item in enumerate(items):
            array[i] = decoder(item)
        return array.reshape(shape)

    def encode_scalar(value: np.generic, encoder: Encoder, path: str) -> dict[str, Any]:
        if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
            raise TypeError(f"{path}: a number of dtype {value.dtype} can't be written to a file")
        return {"value": encoder(value.item(), path), "as": value.dtype.str[1:]}

    def decode_scalar(data: dict[str, Any], decoder: Decoder) -> Any:
        dtype, value = _dtype(data["as"]), decoder(data["value"])
        if dtype.kind not in "biuf" or not isinstance(value, (bool, int, float)):
            raise ValueError("a number has an invalid dtype or value")
        return dtype.type(value)

    register(
        Kind(
            "tuple",
            lambda v: type(v) is tuple,
            lambda v, encoder, path: {"items": encoder(list(v), path)},
            lambda data, decoder: tuple(decoder(list(data["items"]))),
        )
    )
    register(Kind("array", lambda v: type(v) is np.ndarray, encode_array, decode_array))
    register(
        Kind(
            "scalar",
            lambda v: isinstance(v, np.generic),
            encode_scalar,
            decode_scalar,
        )
    )
    register(
        Kind(
            "dtype",
            lambda v: isinstance(v, np.dtype) and v.kind in "biufmMO",
            lambda v, encoder, path: {"name": v.str},
            lambda data, decoder: _dtype(str(data["name"])),
        )
    )


def _dtype(name: str) -> np.dtype:
    dtype = np.dtype(name)
    if dtype.kind not in "biufmMO":
        raise ValueError(f"a dtype is {name!r}")
    return dtype


def _register_random() -> None:
    generators = {"SFC64": np.random.SFC64, "PCG64": np.random.PCG64, "MT19937": np.random.MT19937}

    def encode_state(bits: Any, encoder: Encoder, path: str) -> dict[str, Any]:
        state = bits.state
        if state["bit_generator"] not in generators:
            raise TypeError(
                f"{path}: random numbers of {state['bit_generator']} can't be written to a file; known are "
                f"{', '.join(generators)}"
            )
        return {"state": encoder(state, path)}

    def decode_state(data: dict[str, Any], decoder: Decoder) -> Any:
        state = decoder(data["state"])
        name = state["bit_generator"]
        bits = generators[name](0)
        if name == "MT19937" and not 0 <= int(state["state"]["pos"]) <= 624:
            raise ValueError("the position of a random number generator is outside its state")
        like = bits.state["state"]
        for key, value in like.items():
            given = state["state"][key]
            if np.shape(given) != np.shape(value) or getattr(given, "dtype", None) != getattr(
                value, "dtype", None
            ):
                raise ValueError("the state of a random number generator has an invalid form")
        bits.state = state
        return bits

    def encode_legacy(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
        state = value.get_state(legacy=False)
        more = {key: encoder(state[key], f"{path}/{key}") for key in ("has_gauss", "gauss")}
        return {**encode_state(value._bit_generator, encoder, path), **more}

    def decode_legacy(data: dict[str, Any], decoder: Decoder) -> Any:
        result = np.random.RandomState(decode_state(data, decoder))
        state = result.get_state(legacy=False)
        result.set_state({**state, "has_gauss": int(data["has_gauss"]), "gauss": float(data["gauss"])})
        return result

    def encode_seed(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
        return {
            "entropy": encoder(value.entropy, f"{path}/entropy"),
            "spawn_key": [int(k) for k in value.spawn_key],
            "spawned": int(value.n_children_spawned),
        }

    def decode_seed(data: dict[str, Any], decoder: Decoder) -> Any:
        return np.random.SeedSequence(
            decoder(data["entropy"]),
            spawn_key=tuple(int(k) for k in data["spawn_key"]),
            n_children_spawned=int(data["spawned"]),
        )

    register(
        Kind("seed", lambda v: isinstance(v, np.random.SeedSequence), encode_seed, decode_seed, shared=True)
    )
    register(
        Kind(
            "generator",
            lambda v: isinstance(v, np.random.Generator),
            lambda v, encoder, path: encode_state(v.bit_generator, encoder, path),
            lambda data, decoder: np.random.Generator(decode_state(data, decoder)),
            shared=True,
        )
    )
    register(
        Kind(
            "random_state",
            lambda v: isinstance(v, np.random.RandomState),
            encode_legacy,
            decode_legacy,
            shared=True,
        )
    )


def _register_custom() -> None:
    """Register user-defined objects, classes and functions, which are looked up by name in `custom_objects`."""

    def encode_object(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
        encoder.need(value)
        return {"class": type(value).__name__, "config": encoder(value.get_config(), path)}

    def decode_object(data: dict[str, Any], decoder: Decoder) -> Any:
        cls, config = custom_object(data["class"]), decoder(data["config"])
        return cls.from_config(config) if hasattr(cls, "from_config") else cls(**config)

    def encode_name(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
        if not value.__name__.isidentifier():
            raise TypeError(f"{path}: {value!r} can't be saved, as it has no name: use a named function")
        encoder.need(value)
        return {"name": value.__name__}

    register(
        Kind(
            "custom",
            lambda v: not isinstance(v, type) and hasattr(v, "get_config") and custom_name(v) is not None,
            encode_object,
            decode_object,
            shared=True,
        )
    )
    register(
        Kind(
            "custom_name",
            lambda v: callable(v) and hasattr(v, "__name__") and custom_name(v) is not None,
            encode_name,
            lambda data, decoder: custom_object(data["name"]),
        )
    )


_register_plain()
_register_random()
_register_custom()


def by_name(table: Mapping[str, Any], name: Any, what: str) -> Any:
    """Look up a name among the user-defined objects, then in a table."""
    custom = custom_object(name)
    if custom is not None:
        return custom
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"it has {what} {name!r}, which this version does not know")
    return table[name]
