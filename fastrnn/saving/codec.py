"""Python values as plain data for JSON and tensors beside it, and back, without running code that a file names.

What JSON knows is written as it is. Everything else is a table with the key ``"$"``, which says what it is: one of a fixed
list of kinds, each with its own reader that checks what it reads. Classes are found by name among the library's own
(see `names`), or among `custom_objects`, which the caller passes.
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
    """How one kind of object is written and read.

    Parameters
    ----------
    tag : str
        What files call it.
    accepts : function of the value
        Whether a value is of the kind.
    encode : function of the value, the encoder and the path
        Returns a dict of plain data.
    decode : function of that dict and the decoder
        Returns the value; raises ValueError, TypeError or KeyError where the data is none of the kind.
    shared : bool
        Whether two mentions of one object are read as one object again.
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
    """Make kinds known; of several that accept a value the first one counts, and later calls come first."""
    global _KINDS
    _KINDS = {**{kind.tag: kind for kind in kinds}, **_KINDS}


def custom_name(value: Any) -> str | None:
    """The name of a class or function of the user's, or of an object's class; None for what is the library's own."""
    owner = value if isinstance(value, type) or not hasattr(value, "get_config") else type(value)
    if not (isinstance(owner, type) or callable(owner)):
        owner = type(value)
    module = getattr(owner, "__module__", None) or ""
    return None if module.split(".")[0] in ("fastrnn", "sklearn", "numpy", "builtins") else owner.__name__


class Encoder:
    """Turns values into plain data; arrays are put into `tensors` under the path at which they stand."""

    def __init__(self) -> None:
        self.tensors: dict[str, np.ndarray] = {}
        #: Names of the user's classes and functions that reading will need.
        self.custom: set[str] = set()
        # Objects that were written, by identity; kept so that no other object takes the identity.
        self._written: dict[int, tuple[int, Any]] = {}

    def __call__(self, value: Any, path: str) -> Any:
        """Plain data for `value`, which stands at `path`; raises TypeError for what a file can't hold."""
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
        raise TypeError(
            f"{path}: {value!r} ({type(value).__name__}) can't be written to a file: only plain data, arrays, and objects "
            "of fastrnn, or of classes of yours that have get_config()"
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
        """Keep an array, and return the name under which it is found."""
        self.tensors[path] = array
        return path

    def need(self, *objects: Any) -> None:
        """Note which of these the caller of `load` will have to pass."""
        self.custom.update(name for name in map(custom_name, objects) if name is not None)


class Decoder:
    """Turns what an `Encoder` made back into values.

    Parameters
    ----------
    tensors : dict of str to ndarray
        Used up as they are read.
    """

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.tensors = tensors
        self._read: dict[int, Any] = {}

    def __call__(self, data: Any) -> Any:
        """Return the value; raises ValueError, TypeError or KeyError where `data` is not what an encoder writes."""
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
            raise ValueError(f"it holds a value of the unknown kind {tag!r}")
        kind = _KINDS[tag]
        value = kind.decode(data, self)
        if kind.shared:
            self._read[int(data["number"])] = value
        return value

    def tensor(self, name: Any) -> np.ndarray:
        """Take the array that `Encoder.tensor` kept under this name."""
        return self.tensors.pop(name)


def _register_plain() -> None:
    """The kinds that NumPy and Python bring."""

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
                raise ValueError("an array of strings holds something else")
            # NumPy takes as many characters for each as for the longest.
            if int(form[1:]) > max(map(len, items), default=0) + 1024:
                raise ValueError("an array of strings states a length that none of them has")
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
            raise ValueError("a number is none")
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
            raise ValueError("the position of a random number generator is outside of its state")
        like = bits.state["state"]
        for key, value in like.items():
            given = state["state"][key]
            if np.shape(given) != np.shape(value) or getattr(given, "dtype", None) != getattr(
                value, "dtype", None
            ):
                raise ValueError("the state of a random number generator has another form")
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
    """Objects, classes and functions of the user's, which are found by name among `custom_objects`."""

    def encode_object(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
        encoder.need(value)
        return {"class": type(value).__name__, "config": encoder(value.get_config(), path)}

    def decode_object(data: dict[str, Any], decoder: Decoder) -> Any:
        cls, config = custom_object(data["class"]), decoder(data["config"])
        return cls.from_config(config) if hasattr(cls, "from_config") else cls(**config)

    def encode_name(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
        if not value.__name__.isidentifier():
            raise TypeError(
                f"{path}: {value!r} has no name by which it could be found again: use a function with one"
            )
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
    """What a table says that a name means; names of the user's come first."""
    custom = custom_object(name)
    if custom is not None:
        return custom
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"it holds {what} {name!r}, which this version does not know")
    return table[name]
