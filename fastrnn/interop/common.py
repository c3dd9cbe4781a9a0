"""Used by all conversions: imports of optional libraries, comparison on random input, checks of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn.exceptions import ConversionError
from fastrnn.extras import extra
from fastrnn.models import Sequential

__all__ = ["compare", "example_input", "extra", "refuse", "run_onnx", "sequential_of"]

#: Largest difference that is considered rounding, relative to the largest output (or 1).
_TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


def refuse(layer: Any, target: str, what: str, remedy: str = "") -> ConversionError:
    """The error for a layer with a property that `target` does not support."""
    end = f": {remedy}" if remedy else ""
    return ConversionError(
        f"layer {layer.name!r} ({type(layer).__name__}) has {what}, which {target} lacks{end}"
    )


def sequential_of(model: Any, target: str) -> Sequential:
    """The built `Sequential` model of a model or a fitted estimator."""
    network = getattr(model, "model_", model)
    if not isinstance(network, Sequential):
        raise ConversionError(
            f"model={model!r}: give a Sequential model or a fitted estimator, as {target} takes a stack of layers"
        )
    if not network.built:
        raise ConversionError(
            "the model has no weights yet: call build(input_shape), fit, or start with Input(shape)"
        )
    return network


def example_input(model: Sequential, n_batch: int = 3, n_steps: int = 7) -> np.ndarray:
    """Random input of a model's shape, the same at each call."""
    rng = np.random.default_rng(0)
    shape = model._shapes[0]
    sizes = [n_batch if shape[0] is None else shape[0]]
    for axis, size in enumerate(shape[1:], 1):
        if size is None and axis > 1:
            raise ConversionError(
                f"the model takes inputs of shape {tuple(shape)}: only batch and time may be open"
            )
        sizes.append(n_steps if size is None else size)
    first = model.layers[0]
    if first.takes_tokens:
        return rng.integers(0, first.input_dim, sizes)
    return rng.normal(size=sizes).astype(first.dtype)


def compare(ours: Any, theirs: Any, what: str, shape: Sequence[int], verbose: bool) -> float:
    """The largest difference of two outputs; raises `ConversionError` if it exceeds rounding errors."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        raise ConversionError(f"{what}: outputs have shape {theirs.shape} there and {ours.shape} here")
    difference = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0))
    size = max(1.0, float(np.abs(ours).max(initial=0.0)))
    if (
        not difference
        <= _TOLERANCE["float64" if ours.dtype == theirs.dtype == np.float64 else "float32"] * size
    ):
        raise ConversionError(
            f"{what}: on random input of shape {tuple(shape)} the outputs differ by {difference:.3g}, so the other model "
            "computes something else"
        )
    if verbose:
        print(f"{what}: largest difference {difference:.3g} on random input of shape {tuple(shape)}")
    return difference


def run_onnx(model: Any, feeds: Mapping[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
    """Outputs of an ONNX model, from onnxruntime, or from ONNX's reference if onnxruntime lacks a kernel."""
    runtime = extra("onnxruntime", "onnx")
    try:
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # no messages about missing kernels: the reference is used then
        session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        result: list[np.ndarray] = session.run(list(names), dict(feeds))
        return result
    except Exception as first:
        # onnxruntime's errors have no common class, and missing kernels are found at different moments.
        reference = extra("onnx.reference", "onnx")
        try:
            result = reference.ReferenceEvaluator(model).run(list(names), dict(feeds))
            return result
        except Exception as error:
            raise ConversionError(f"the ONNX model can't be run: {first}; {error}") from error
