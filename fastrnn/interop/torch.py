"""Conversion of PyTorch's modules and state dicts to models; `torch_writer` converts models to modules.

PyTorch's gates are in the order i, f, g, o for LSTM, as here, and r, z, n for GRU, which is z, r, h here. Its weights are
the transpose of those here. All its layers have two biases; here only GRU does, whose reset gate is applied between them.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import layers
from fastrnn.exceptions import ConversionError
from fastrnn.interop.common import compare, example_input, extra
from fastrnn.models import Sequential

__all__ = ["ACTIVATIONS", "GATES", "array_of", "from_torch"]

#: Index of PyTorch's block of rows for each gate here.
GATES = {"RNN": [0], "LSTM": [0, 1, 2, 3], "GRU": [1, 0, 2]}
_LAYERS = {"RNN": "SimpleRNN", "LSTM": "LSTM", "GRU": "GRU"}
#: Name of an activation here -> PyTorch's module and its arguments.
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "elu": ("ELU", {}),
    "gelu": ("GELU", {}),
    "hard_sigmoid": ("Hardsigmoid", {}),
    "hard_silu": ("Hardswish", {}),
    "leaky_relu": ("LeakyReLU", {"negative_slope": 0.2}),
    "log_sigmoid": ("LogSigmoid", {}),
    "log_softmax": ("LogSoftmax", {"dim": -1}),
    "relu": ("ReLU", {}),
    "relu6": ("ReLU6", {}),
    "selu": ("SELU", {}),
    "sigmoid": ("Sigmoid", {}),
    "silu": ("SiLU", {}),
    "softmax": ("Softmax", {"dim": -1}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "tanh": ("Tanh", {}),
}
_NAMES = {theirs: ours for ours, (theirs, _) in ACTIVATIONS.items()}


def _blocks(array: np.ndarray, kind: str) -> np.ndarray:
    """Reorder PyTorch's rows into the order of gates here."""
    parts = np.split(array, len(GATES[kind]))
    return np.concatenate([parts[g] for g in GATES[kind]])


def array_of(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


# -- from PyTorch


class _Part:
    """A PyTorch module: its kind, its arrays by name, and its options."""

    def __init__(self, name: str, kind: str, arrays: Mapping[str, Any], **options: Any) -> None:
        self.name, self.kind, self.options = name, kind, options
        self.arrays = {key: array_of(value) for key, value in arrays.items()}

    def layers(self, return_sequences: bool) -> tuple[list[Any], list[np.ndarray]]:
        """The layers for the module, and their weights."""
        if self.kind in GATES:
            return self._recurrent(return_sequences)
        dtype = next((a.dtype.name for a in self.arrays.values()), "float32")
        if self.kind == "Linear":
            weight, bias = self.arrays["weight"], self.arrays.get("bias")
            layer = layers.Dense(len(weight), use_bias=bias is not None, dtype=dtype)
            return [layer], [weight.T, *([] if bias is None else [bias])]
        if self.kind == "Embedding":
            table = self.arrays["weight"]
            return [layers.Embedding(*table.shape, dtype=dtype)], [table]
        return [self.options["make"]()], []

    def _recurrent(self, return_sequences: bool) -> tuple[list[Any], list[np.ndarray]]:
        found, weights = [], []
        both = any(key.endswith("_reverse") for key in self.arrays)
        n_levels = 1 + max(int(re.findall(r"_l(\d+)", key)[0]) for key in self.arrays)
        for level in range(n_levels):
            last = level == n_levels - 1
            for suffix in ("", "_reverse")[: 1 + both]:
                names = [f"{n}_l{level}{suffix}" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
                try:
                    w, u, *biases = [
                        self.arrays[n] for n in names if n in self.arrays or not n.startswith("bias")
                    ]
                except KeyError as error:
                    raise ConversionError(f"module {self.name!r} has no {error}") from None
                if u.shape[0] != len(GATES[self.kind]) * u.shape[1]:
                    raise ConversionError(
                        f"module {self.name!r} has a projection (proj_size), which no layer has"
                    )
                weights += [_blocks(w, self.kind).T, _blocks(u, self.kind).T]
                if biases:
                    b, c = (_blocks(b, self.kind) for b in biases)
                    weights.append(np.stack([b, c]) if self.kind == "GRU" else b + c)
            more = {"activation": "relu"} if self.options.get("nonlinearity") == "relu" else {}
            layer = getattr(layers, _LAYERS[self.kind])(
                u.shape[1],
                use_bias=bool(biases),
                return_sequences=return_sequences or not last,
                dtype=u.dtype.name,
                **more,
            )
            found.append(layers.Bidirectional(layer) if both else layer)
            if self.options.get("dropout") and not last:
                found.append(layers.Dropout(self.options["dropout"], dtype=u.dtype.name))
        return found, weights


def _of_module(module: Any, name: str = "") -> list[_Part]:
    """The parts of a module in the order in which they were defined."""
    kind = type(module).__name__
    home = type(module).__module__
    children = list(module.named_children())
    if not home.startswith("torch.nn") or kind == "Sequential":
        if not children:
            raise ConversionError(f"module {name or kind!r} ({kind}) is of a kind that is not known here")
        own = [key for key, _ in module.named_parameters(recurse=False)]
        if own:
            raise ConversionError(
                f"module {name or kind!r} ({kind}) has the weights {own}, which can't be converted"
            )
        return [part for key, child in children for part in _of_module(child, f"{name}.{key}".strip("."))]
    if kind in GATES:
        nonlinearity = getattr(module, "nonlinearity", "tanh")
        return [
            _Part(
                name,
                kind,
                dict(module.named_parameters()),
                nonlinearity=nonlinearity,
                dropout=module.dropout,
                batch_first=module.batch_first,
            )
        ]
    if kind in ("Linear", "Embedding"):
        if getattr(module, "max_norm", None) is not None:
            raise ConversionError(
                f"module {name!r} has max_norm={module.max_norm}, which fastrnn's Embedding lacks"
            )
        return [_Part(name, kind, dict(module.named_parameters()))]
    if kind == "Dropout":
        return [_Part(name, kind, {}, make=lambda: layers.Dropout(module.p))]
    if kind == "Identity":
        return []
    if kind in _NAMES:
        ours = _NAMES[kind]
        for option, value in ACTIVATIONS[ours][1].items():
            if option != "dim" and getattr(module, option) != value:
                raise ConversionError(
                    f"module {name!r} has {option}={getattr(module, option)}, {ours!r} here has {value}"
                )
        return [_Part(name, kind, {}, make=lambda: layers.Activation(ours))]
    raise ConversionError(
        f"module {name or kind!r} ({kind}) is of a kind that is not known here; known are RNN, LSTM, GRU, Linear, "
        f"Embedding, Dropout, Identity and {', '.join(sorted(_NAMES))}"
    )


def _of_state_dict(table: Mapping[str, Any]) -> list[_Part]:
    """The modules of a state dict, from its names and shapes."""
    groups: dict[str, dict[str, Any]] = {}
    for key, value in table.items():
        if not isinstance(key, str):
            raise ConversionError(
                f"the state dict has the key {key!r}: keys are names, such as 'lstm.weight_ih_l0'"
            )
        array = array_of(value)
        if array.dtype.kind not in "fiu" or array.size == 0:
            raise ConversionError(f"{key!r} has dtype {array.dtype} and shape {array.shape}: give numbers")
        prefix, _, name = key.rpartition(".")
        groups.setdefault(prefix, {})[name] = value
    parts = []
    for prefix, arrays in groups.items():
        if "weight_hh_l0" in arrays:
            rows, units = arrays["weight_hh_l0"].shape
            kinds = {1: "RNN", 3: "GRU", 4: "LSTM"}
            if rows % units or rows // units not in kinds:
                raise ConversionError(
                    f"{prefix!r} has weight_hh_l0 of shape {(rows, units)}: no RNN, GRU or LSTM has"
                )
            parts.append(_Part(prefix, kinds[rows // units], arrays))
        elif set(arrays) <= {"weight", "bias"} and len(np.shape(arrays.get("weight", ()))) == 2:
            # Without a bias, only the name distinguishes an Embedding from a Linear.
            table_like = "bias" not in arrays and "emb" in prefix.rpartition(".")[2].lower()
            parts.append(_Part(prefix, "Embedding" if table_like else "Linear", arrays))
        else:
            raise ConversionError(
                f"{prefix!r} has {sorted(arrays)}: known are RNN, LSTM, GRU, Linear and Embedding"
            )
    return parts


def _build(parts: list[_Part], return_sequences: bool) -> Sequential:
    if not parts:
        raise ConversionError("there is nothing to convert: the module has no layers")
    made, weights = [], []
    for i, part in enumerate(parts):
        later = any(other.kind in GATES for other in parts[i + 1 :])
        found, arrays = part.layers(return_sequences or later)
        made += found
        weights += arrays
    dtypes = {a.dtype.name for a in weights}
    if not dtypes <= {"float32"} and not dtypes <= {"float64"}:
        raise ConversionError(
            f"the weights have dtypes {sorted(dtypes)}: all must be float32, or all float64"
        )
    if dtypes == {"float64"}:
        made = [type(layer).from_config({**layer.get_config(), "dtype": "float64"}) for layer in made]
    first = parts[0]
    size = first.arrays.get("weight_ih_l0") if first.kind in GATES else first.arrays.get("weight")
    if size is None:
        raise ConversionError(f"the first module is {first.kind}: begin with one that has weights")
    try:
        model = Sequential(made)
        model.build((None, None) if first.kind == "Embedding" else (None, None, size.shape[1]))
        model.set_weights([np.ascontiguousarray(a) for a in weights])
    except ValueError as error:
        raise ConversionError(f"the modules don't form a stack of layers: {error}") from error
    return model


def from_torch(source: Any, *, return_sequences: bool | None = None, verbose: bool = False) -> Sequential:
    """Make a model from PyTorch's weights.

    Parameters
    ----------
    source : torch.nn.Module, or mapping of str to tensor or array
        A module of RNN, LSTM, GRU (any number of layers, bidirectional, with biases or without), Linear, Embedding,
        Dropout and activations, taken in the order in which they were defined; or a state dict of RNN, LSTM, GRU, Linear
        and Embedding, which does not need PyTorch. A table in a state dict is an Embedding if its name contains "emb"; the
        activation of RNN is not in a state dict and assumed to be tanh.
    return_sequences : bool, optional
        Whether the last recurrent layer outputs all steps, or only the last. None tries both for a module, and means all
        steps for a state dict.
    verbose : bool
        Whether to print the largest difference of the outputs; of a state dict, if PyTorch is installed, to those of its
        modules with these arrays.

    Returns
    -------
    Sequential
        Not compiled. Its inputs are ``(batch, time, features)``, independent of `batch_first`.

    Raises
    ------
    ConversionError
        If a module is of another kind, or its outputs on random input differ from those of its children applied in turn.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn import interop
    >>> rng = np.random.default_rng(0)
    >>> state = {"weight_ih_l0": rng.normal(size=(8, 3)), "weight_hh_l0": rng.normal(size=(8, 2)),
    ...          "bias_ih_l0": np.zeros(8), "bias_hh_l0": np.zeros(8)}
    >>> interop.from_torch(state).layers
    [<LSTM 'lstm', built>]
    """
    if isinstance(source, Mapping):
        try:
            parts, every_step = _of_state_dict(source), return_sequences is not False
            model = _build(parts, every_step)
            if verbose:
                _compare_with_state_dict(model, parts, every_step)
            return model
        except (ValueError, IndexError, KeyError, AttributeError) as error:
            if isinstance(error, ConversionError):
                raise
            raise ConversionError(f"the state dict's arrays don't form layers: {error}") from error
    torch = extra("torch", "torch")
    if not isinstance(source, torch.nn.Module):
        raise ConversionError(f"source={source!r}: give a torch.nn.Module, or its state_dict()")
    parts = _of_module(source)
    failures: dict[str, bool] = {}
    for choice in (True, False) if return_sequences is None else (return_sequences,):
        model = _build(parts, choice)
        try:
            _compare_with_module(torch, model, source, parts, verbose)
            return model
        except ConversionError as error:
            failures.setdefault(str(error), choice)
    tried = (f"{what} (return_sequences={choice})" for what, choice in failures.items())
    raise ConversionError("; ".join(tried))


def _compare_with_state_dict(model: Sequential, parts: list[_Part], every_step: bool) -> None:
    """Compare outputs with those of PyTorch's modules, which are given the arrays of the state dict."""
    if importlib.util.find_spec("torch") is None:
        print(
            f"from_torch: {model.count_params()} weights; PyTorch is not installed, so that no output was compared"
        )
        return
    torch = extra("torch", "torch")
    x = example_input(model)
    value = torch.tensor(x)
    for i, part in enumerate(parts):
        arrays = {name: torch.tensor(array) for name, array in part.arrays.items()}
        if part.kind not in GATES:
            weight = arrays["weight"]
            sizes = weight.shape if part.kind == "Embedding" else weight.shape[::-1]
            options = {} if part.kind == "Embedding" else {"bias": "bias" in arrays}
            module = getattr(torch.nn, part.kind)(*sizes, dtype=weight.dtype, **options)
            module.load_state_dict(arrays)
            with torch.no_grad():
                value = module(value)
            continue
        first = arrays["weight_ih_l0"]
        module = getattr(torch.nn, part.kind)(
            first.shape[1],
            arrays["weight_hh_l0"].shape[1],
            sum(name.startswith("weight_ih_l") and not name.endswith("_reverse") for name in arrays),
            bias="bias_ih_l0" in arrays,
            batch_first=True,
            bidirectional="weight_ih_l0_reverse" in arrays,
            dtype=first.dtype,
        )
        module.load_state_dict(arrays)
        with torch.no_grad():
            value, last = module(value)
        if not every_step and not any(other.kind in GATES for other in parts[i + 1 :]):
            states = last[0] if isinstance(last, tuple) else last
            value = torch.cat(list(states[-2:] if module.bidirectional else states[-1:]), dim=-1)
    compare(model(x), array_of(value), "from_torch", x.shape, verbose=True)


def _compare_with_module(
    torch: Any, model: Sequential, module: Any, parts: list[_Part], verbose: bool
) -> None:
    time_major = any(part.options.get("batch_first") is False for part in parts)
    x = example_input(model)
    given = torch.tensor(x.swapaxes(0, 1) if time_major else x)
    was_training = module.training
    try:
        with torch.no_grad():
            theirs = module.eval()(given)
    except Exception as error:
        raise ConversionError(
            f"the module can't be called with an input of shape {tuple(given.shape)}: {error}"
        ) from error
    finally:
        module.train(was_training)
    theirs = array_of(theirs[0] if isinstance(theirs, tuple) else theirs)
    ours = model(x)
    compare(
        ours,
        theirs.swapaxes(0, 1) if time_major and ours.ndim == 3 else theirs,
        "from_torch",
        x.shape,
        verbose,
    )
