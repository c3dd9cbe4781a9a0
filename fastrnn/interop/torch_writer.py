"""Conversion of models to PyTorch's modules; `torch` converts them back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import layers
from fastrnn.exceptions import ConversionError
from fastrnn.interop.common import compare, example_input, extra, refuse, sequential_of
from fastrnn.interop.torch import ACTIVATIONS, GATES, array_of
from fastrnn.registry import made_once

__all__ = ["to_torch"]


def _unblocks(array: np.ndarray, kind: str) -> np.ndarray:
    parts = np.split(array, len(GATES[kind]))
    return np.concatenate([parts[GATES[kind].index(g)] for g in range(len(parts))])


def __getattr__(name: str) -> Any:
    # The class must be found when a module is unpickled in a process that has not called to_torch.
    if name == "Chain":
        return _chain()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@made_once
def _chain() -> Any:
    """The class of the modules of `to_torch`, which can be defined only when PyTorch is imported."""
    torch = extra("torch", "torch")

    class Chain(torch.nn.Sequential):  # type: ignore[name-defined, misc]
        """A stack of modules; recurrent modules pass on the outputs of all steps or of the last step."""

        def __init__(self, modules: Any, last_only: Mapping[str, bool]) -> None:
            super().__init__(OrderedDict(modules))
            #: Names of the recurrent modules, and whether only the output of the last step is passed on.
            self.last_only = dict(last_only)

        def forward(self, x: Any) -> Any:
            for name, module in self.named_children():
                x = module(x)
                if name in self.last_only:
                    x, states = x
                    if self.last_only[name]:
                        h = states[0] if isinstance(states, tuple) else states
                        x = torch.cat(list(h), -1)  # the states of one or both directions
            return x

    Chain.__module__, Chain.__qualname__ = __name__, "Chain"
    return Chain


def to_torch(model: Any, *, verbose: bool = False) -> Any:
    """Make a PyTorch module of a model.

    Parameters
    ----------
    model : Sequential or fitted estimator
        A model of SimpleRNN (tanh or relu), LSTM and GRU (with the defaults of Keras and PyTorch), Bidirectional (concat)
        of these, Dense, Embedding, Dropout, Activation and TimeDistributed of Dense.
    verbose : bool
        Whether to print the largest difference of the outputs.

    Returns
    -------
    torch.nn.Sequential
        With ``batch_first``; its children have the layers' names. Dropout inside recurrent layers is not converted.

    Raises
    ------
    ConversionError
        If PyTorch lacks a layer or an option; the message names it.

    Examples
    --------
    >>> from fastrnn import Sequential, layers
    >>> from fastrnn.interop import to_torch
    >>> model = Sequential([layers.Input((None, 3)), layers.LSTM(4, return_sequences=True, name="lstm")])
    >>> to_torch(model).lstm
    LSTM(3, 4, batch_first=True)
    """
    torch = extra("torch", "torch")
    network = sequential_of(model, "to_torch")
    modules: dict[str, Any] = {}
    last_only: dict[str, bool] = {}
    for layer in network.layers:
        name = layer.name.replace(".", "_")
        if isinstance(layer, (layers.SimpleRNN, layers.LSTM, layers.GRU, layers.Bidirectional)):
            modules[name] = _recurrent_module(torch, layer)
            last_only[name] = not layer.return_sequences
        else:
            _add_stateless(torch, layer, name, modules)
    result = _chain()(modules, last_only)
    x = example_input(network)
    with torch.no_grad():
        theirs = array_of(result.eval()(torch.tensor(x)))
    compare(network(x), theirs, "to_torch", x.shape, verbose)
    return result


def _add_stateless(torch: Any, layer: Any, name: str, modules: dict[str, Any]) -> None:
    inner = layer.layer if isinstance(layer, layers.TimeDistributed) else layer
    dtype = getattr(torch, layer.dtype.name)
    if isinstance(inner, layers.Dense):
        kernel, *bias = inner.get_weights()
        module = torch.nn.Linear(*kernel.shape, bias=bool(bias), dtype=dtype)
        _fill(torch, module.weight, kernel.T)
        if bias:
            _fill(torch, module.bias, bias[0])
        modules[name] = module
        if inner.activation != "linear":
            modules[f"{name}_activation"] = _activation(torch, inner)
    elif isinstance(inner, layers.Activation):
        modules[name] = _activation(torch, inner)
    elif isinstance(layer, layers.Embedding):
        if layer.mask_zero:
            raise refuse(
                layer, "PyTorch", "mask_zero=True", "leave out the padding, or use packed sequences there"
            )
        modules[name] = torch.nn.Embedding(layer.input_dim, layer.output_dim, dtype=dtype)
        _fill(torch, modules[name].weight, layer.get_weights()[0])
    elif isinstance(layer, layers.Dropout):
        modules[name] = torch.nn.Dropout(layer.rate)
    else:
        raise ConversionError(f"layer {layer.name!r} ({type(layer).__name__}) can't be converted to PyTorch")


def _activation(torch: Any, layer: Any) -> Any:
    if layer.activation == "linear":
        return torch.nn.Identity()
    if layer.activation not in ACTIVATIONS:
        raise refuse(
            layer, "PyTorch", f"activation={layer.activation!r}", f"known are {', '.join(ACTIVATIONS)}"
        )
    kind, options = ACTIVATIONS[layer.activation]
    return getattr(torch.nn, kind)(**options)


def _fill(torch: Any, parameter: Any, values: np.ndarray) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(np.ascontiguousarray(values)))


def _recurrent_module(torch: Any, layer: Any) -> Any:
    both = isinstance(layer, layers.Bidirectional)
    children = [layer.forward_layer, layer.backward_layer] if both else [layer]
    child = children[0]
    kinds = {layers.SimpleRNN: "RNN", layers.LSTM: "LSTM", layers.GRU: "GRU"}
    if type(child) not in kinds or any(
        type(c) is not type(child) or c.units != child.units for c in children
    ):
        raise ConversionError(
            f"layer {layer.name!r} ({type(layer).__name__} of {type(child).__name__}) has no counterpart in PyTorch: it has "
            "RNN, LSTM and GRU, the same in both directions"
        )
    kind = kinds[type(child)]
    if both and layer.merge_mode != "concat":
        raise refuse(layer, "PyTorch", f"merge_mode={layer.merge_mode!r}", "it has 'concat'")
    if child.go_backwards:
        raise refuse(layer, "PyTorch", "go_backwards=True", "reverse the input there")
    if child.return_state or child.stateful:
        option = "return_state" if child.return_state else "stateful"
        raise refuse(
            layer, "this conversion", f"{option}=True", "PyTorch's modules take and return states themselves"
        )
    for c in children:
        wanted: dict[str, tuple[Any, ...]] = {
            "activation": ("tanh",),
            "recurrent_activation": ("sigmoid",),
            "reset_after": (True,),
        }
        if kind == "RNN":
            wanted = {"activation": ("tanh", "relu")}
        for option, values in wanted.items():
            if hasattr(c, option) and getattr(c, option) not in values:
                raise refuse(
                    c,
                    "PyTorch",
                    f"{option}={getattr(c, option)!r}",
                    f"it has {' or '.join(map(repr, values))}",
                )
        if (c.use_bias, c.activation) != (child.use_bias, child.activation):
            raise refuse(layer, "PyTorch", "directions with unlike options")
    more = {"nonlinearity": child.activation} if kind == "RNN" else {}
    module = getattr(torch.nn, kind)(
        len(child._weights["kernel"]),
        child.units,
        bias=child.use_bias,
        batch_first=True,
        bidirectional=both,
        dtype=getattr(torch, layer.dtype.name),
        **more,
    )
    for c, suffix in zip(children, ("", "_reverse"), strict=False):
        kernel, recurrent, *bias = c.get_weights()
        arrays = {"weight_ih": kernel.T, "weight_hh": recurrent.T}
        if bias:
            arrays["bias_ih"], arrays["bias_hh"] = (
                bias[0] if kind == "GRU" else (bias[0], np.zeros_like(bias[0]))
            )
        for name, array in arrays.items():
            _fill(torch, getattr(module, f"{name}_l0{suffix}"), _unblocks(array, kind))
    return module
