"""Keras 3 as an oracle: the same layer, the same weights in, NumPy arrays out; on its PyTorch or its JAX backend.

PyTorch is taken where it is installed, since it runs eagerly: a drawn case costs milliseconds where JAX would compile for
every new shape. Its masked loop is also the documented one; the JAX and NumPy backends differ from it in two places (see
``masked_loop_differs``). Set ``KERAS_BACKEND`` to choose.
"""

from __future__ import annotations

import importlib.util
import os
import warnings

import numpy as np

LAYER_NAMES = {"simple_rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}


def load():
    """Import Keras, choosing a backend unless KERAS_BACKEND is set; ImportError if Keras or every backend is missing."""
    if "KERAS_BACKEND" not in os.environ:
        found = [name for name in ("torch", "jax") if importlib.util.find_spec(name)]
        if not found:
            raise ImportError("Keras needs torch or jax")
        os.environ["KERAS_BACKEND"] = found[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)
        # Keras would place tensors on an accelerator where there is one; the oracle is the CPU.
        torch.set_default_device("cpu")
        # PyTorch keeps the 1/6 of hard_sigmoid's derivative in float32 whatever the dtype.
        tensor = keras.ops.convert_to_tensor
        keras.src.backend.torch.nn.hard_sigmoid = lambda x: torch.clamp(tensor(x) + 3, 0, 6) / 6
    # Keras keeps its learning rate in floatx, and everywhere but on TensorFlow it computes float64 products in float32;
    # an oracle for float64 must not. Layers name their own dtype.
    keras.config.set_floatx("float64")
    keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    return keras


def forget_compiled():
    """Drop what JAX has compiled, which it would keep for every shape it has seen: gigabytes after a few hundred cases."""
    if backend() == "jax":
        import jax

        jax.clear_caches()


def backend():
    return load().backend.backend()


def masked_loop_differs(*, unroll, zero_output_for_mask, go_backwards, mask, initial_state):
    """Whether this backend of Keras can't be the oracle of a masked case.

    On TensorFlow and PyTorch a masked step before the first valid one gives zeros, and ``zero_output_for_mask`` holds
    unrolled too; that is what we hold to. On JAX and NumPy the looped layer gives the initial state there, and the
    unrolled one ignores the flag. On PyTorch the unrolled layer can't reverse a mask (it fails with AttributeError).
    """
    if mask is None:
        return False
    if backend() == "torch":
        return unroll and go_backwards
    if unroll:
        return zero_output_for_mask
    return initial_state is not None and not zero_output_for_mask


def to_numpy(value):
    if isinstance(value, (list, tuple)):
        return [to_numpy(v) for v in value]
    return np.asarray(load().ops.convert_to_numpy(value))


def to_numpy_if_tensor(value):
    """NumPy arrays as they are, Keras's tensors and variables as NumPy arrays."""
    return value if isinstance(value, np.ndarray) else to_numpy(value)


def tensor(value, dtype=None):
    return (
        None
        if value is None
        else load().ops.convert_to_tensor(value, dtype=dtype or np.asarray(value).dtype.name)
    )


def make_layer(cell, units, weights, n_inputs, dtype, n_batch=None, **options):
    layer = getattr(load().layers, LAYER_NAMES[cell])(units, dtype=dtype, **options)
    return with_weights(layer, weights, n_inputs, n_batch)


def with_weights(layer, weights, n_inputs, n_batch=None):
    layer.build((n_batch, None, n_inputs))
    layer.set_weights(weights)
    return layer


def set_dropout_masks(layer, x_masks=None, h_masks=None):
    """Put dropout masks in the place where the cell would keep those it has drawn."""
    as_tensors = [
        None if m is None else [tensor(a) for a in m] if isinstance(m, list) else tensor(m)
        for m in (x_masks, h_masks)
    ]
    layer.cell._dropout_mask, layer.cell._recurrent_dropout_mask = as_tensors


def _flat(result):
    return list(result) if isinstance(result, (list, tuple)) else [result]


def forward(layer, x, mask=None, initial_state=None, training=False):
    """Everything the layer returns, as a flat list of arrays."""
    initial = None if initial_state is None else [tensor(s) for s in initial_state]
    return to_numpy(
        _flat(layer(tensor(x), mask=tensor(mask, "bool"), initial_state=initial, training=training))
    )


def forward_and_gradients(layer, x, d_results, mask=None, initial_state=None, training=False):
    """Results, and the gradients of ``sum(result * d_result)``: ``(results, dx, d_initial_state, d_weights)``."""
    if backend() == "torch":
        return _torch_gradients(layer, x, d_results, mask, initial_state, training)
    import jax

    trainable = [v.value for v in layer.trainable_variables]
    rest = [v.value for v in layer.non_trainable_variables]

    def scalar(x, initial, trainable):
        results, _ = layer.stateless_call(
            trainable, rest, x, mask=tensor(mask, "bool"), initial_state=initial, training=training
        )
        results = _flat(results)
        return sum((r * d).sum() for r, d in zip(results, d_results, strict=True)), results

    initial = None if initial_state is None else [tensor(s) for s in initial_state]
    (_, results), grads = jax.value_and_grad(scalar, argnums=(0, 1, 2), has_aux=True)(
        tensor(x), initial, trainable
    )
    return to_numpy(results), *(None if g is None else to_numpy(g) for g in grads)


def _torch_gradients(layer, x, d_results, mask, initial_state, training):
    x = tensor(x).detach().clone().requires_grad_(True)
    initial = (
        None
        if initial_state is None
        else [tensor(s).detach().clone().requires_grad_(True) for s in initial_state]
    )
    variables = [v.value for v in layer.trainable_variables]
    for v in variables:
        v.grad = None
    results = _flat(layer(x, mask=tensor(mask, "bool"), initial_state=initial, training=training))
    sum((r * tensor(d)).sum() for r, d in zip(results, d_results, strict=True)).backward()

    def grad(v):
        return np.zeros(tuple(v.shape), to_numpy(v.detach()).dtype) if v.grad is None else to_numpy(v.grad)

    return (
        to_numpy([r.detach() for r in results]),
        grad(x),
        None if initial is None else [grad(s) for s in initial],
        [grad(v) for v in variables],
    )
