"""Drawn cases, run by Keras 3 and by fastrnn with the same weights, and compared number for number.

``python -m tests.differential --cases 2000 --seed 0`` draws 2,000 cases and prints what differs. A case is plain data
(JSON), so that a difference can be kept: add it to ``tests/golden/regressions.json``.

Two kinds of case are drawn. "layer": one recurrent layer with mask, initial state and any options; compared are
outputs, states, and the gradients of input and weights. "model": a Sequential of up to three layers and a head, 5 steps
of an optimizer; compared are the outputs before, the losses, and the outputs and weights after. They must agree to
1e-10 in float64 and 1e-5 in float32, relative to the largest entry where that is above 1.

Cross-entropies are computed from logits, as Keras does on TensorFlow; on its other backends it cuts probabilities off at
1e-7. Where that shows, Keras is run from logits too.

Stateful training is not drawn: Keras does not carry the state there on JAX, and fails on PyTorch. ``tests`` hold it
against the naive oracle.

In float32 an optimizer that divides by the size of a gradient makes much of a rounding error where the gradient nearly
vanishes: there it gets an epsilon of 1e-3. A float32 case that still differs is run in float64 too: there both must
agree to 1e-10, and our float32 numbers must lie about as near to those as Keras's do. A case that still differs is run
by Keras once more from weights that are moved by some units in the last place: where that moves Keras's results as far
as ours are away, rounding decides and the case tells nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
import warnings

import numpy as np

from tests import keras_oracle, naive

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
VERDICTS = {
    "agrees": "agree",
    "float32": "agree within Keras's own float32 error",
    "sensitive": "agree within what the weights' last digits do to Keras",
    "explodes": "not compared, since the network explodes",
    "differs": "differ",
}
N_TRAIN_STEPS = 5
RECURRENT = ("SimpleRNN", "LSTM", "GRU")
#: Those whose derivative is the same everywhere in all libraries, or that differ on a set a drawn number can't hit.
ACTIVATIONS = sorted(set(naive.ACTIVATIONS) - {"exponential"})
HEADS = [
    ("mse", None),
    ("mse", "tanh"),
    ("huber", None),
    ("mae", "sigmoid"),
    ("binary_crossentropy", "sigmoid"),
    ("categorical_crossentropy", "softmax"),
    ("sparse_categorical_crossentropy", "softmax"),
]
OPTIMIZERS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.5, "nesterov": True}),
    ("SGD", {"clipnorm": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("RMSprop", {"clipvalue": 0.01}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"global_clipnorm": 0.1}),
]

# --------------------------------------------------------------------------------------------- drawing


def _chance(rng, p):
    return bool(rng.random() < p)


def _pick(rng, values):
    return values[int(rng.integers(len(values)))]


def draw_recurrent(rng, *, sequences, n_steps, bidirectional=0.25):
    """One recurrent layer, perhaps bidirectional, as ``[class name, arguments]``."""
    name = _pick(rng, RECURRENT)
    options = {"units": int(rng.choice([1, 2, 3, 4, 5, 7, 8, 9, 16, 17])), "return_sequences": sequences}
    for argument in ("activation", "recurrent_activation"):
        if (name, argument) != ("SimpleRNN", "recurrent_activation") and _chance(rng, 0.4):
            options[argument] = _pick(rng, [*ACTIVATIONS, None])
    if _chance(rng, 0.2):
        options["use_bias"] = False
    if name == "GRU" and _chance(rng, 0.5):
        options["reset_after"] = False
    if n_steps <= 6 and _chance(rng, 0.2):
        options["unroll"] = True
    if not _chance(rng, bidirectional):
        if _chance(rng, 0.25):
            options["go_backwards"] = True
        if _chance(rng, 0.25):
            options["zero_output_for_mask"] = True
        return [name, options]
    wrapper = {"layer": [name, options], "merge_mode": _pick(rng, ["concat", "sum", "mul", "ave"])}
    if _chance(rng, 0.2):
        wrapper["backward_layer"] = [name, {**options, "activation": "softsign", "go_backwards": True}]
    return ["Bidirectional", wrapper]


def draw_case(rng):
    """A case as plain data; arrays follow from its ``array_seed``."""
    case = {
        "kind": "layer" if _chance(rng, 0.5) else "model",
        "dtype": _pick(rng, ["float32", "float64"]),
        "n_batch": int(rng.choice([1, 2, 3, 5, 18])),
        "n_steps": int(rng.choice([1, 2, 3, 4, 6, 9])),
        "n_inputs": int(rng.choice([1, 2, 3, 5, 8])),
        "mask": _pick(rng, [None, None, "random", "random", "trailing", "leading", "full", "sparse"]),
        "array_seed": int(rng.integers(2**31)),
    }
    if case["kind"] == "layer":
        layer = draw_recurrent(rng, sequences=_chance(rng, 0.6), n_steps=case["n_steps"])
        inner = layer[1]["layer"][1] if layer[0] == "Bidirectional" else layer[1]
        inner["return_state"] = True
        if "backward_layer" in layer[1]:
            layer[1]["backward_layer"][1]["return_state"] = True
        return {**case, "layers": [layer], "initial_state": _chance(rng, 0.6)}
    depth = int(rng.integers(1, 4))
    tokens = _chance(rng, 0.2)
    layers = []
    if tokens:
        layers.append(
            ["Embedding", {"input_dim": 11, "output_dim": 4, "mask_zero": case["mask"] is not None}]
        )
    elif case["mask"]:
        layers.append(["Masking", {"mask_value": 0.0}])
    many = _chance(rng, 0.4)
    for k in range(depth):
        layers.append(draw_recurrent(rng, sequences=many or k < depth - 1, n_steps=case["n_steps"]))
    loss, activation = _pick(rng, HEADS)
    outputs = 1 if loss == "binary_crossentropy" else int(rng.choice([2, 3]))
    layers.append(["Dense", {"units": outputs, "activation": activation}])
    optimizer, settings = _pick(rng, OPTIMIZERS)
    if case["dtype"] == "float32" and optimizer != "SGD":
        settings = {**settings, "epsilon": 1e-3}
    return {
        **case,
        "layers": layers,
        "tokens": tokens,
        "loss": loss,
        "optimizers": [[optimizer, {"learning_rate": 0.01, **settings}]],
        "sample_weight": _chance(rng, 0.2) and not many,
    }


def draw_mask(rng, kind, shape):
    n_batch, n_steps = shape
    lengths = rng.integers(0, n_steps + 1, n_batch)[:, None]
    steps = np.arange(n_steps)
    return {
        "random": lambda: rng.random(shape) < 0.7,
        "sparse": lambda: rng.random(shape) < 0.2,
        "trailing": lambda: steps < lengths,
        "leading": lambda: steps >= n_steps - lengths,
        "full": lambda: np.ones(shape, bool),
    }[kind]()


def draw_arrays(case):
    """Input, mask, targets and whatever else a case needs; weights come later, when their shapes are known."""
    rng = np.random.default_rng(case["array_seed"])
    shape = case["n_batch"], case["n_steps"]
    mask = draw_mask(rng, case["mask"], shape) if case["mask"] else None
    if case.get("tokens"):
        x = rng.integers(1, 11, shape)
    else:
        x = rng.normal(size=(*shape, case["n_inputs"])).astype(case["dtype"])
    if case["kind"] == "model" and mask is not None:
        x = np.where(mask if case["tokens"] else mask[:, :, None], x, np.zeros((), x.dtype))
    weight = rng.random(case["n_batch"]) if case.get("sample_weight") else None
    return {"x": x, "mask": mask, "sample_weight": weight, "rng": rng}


def draw_weights(rng, shapes, dtype, nudge=None):
    """Weights small enough that few networks explode; with the seed `nudge` moved by 16 units in the last place."""
    weights = [
        (rng.normal(size=s) * (0.4 if len(s) == 1 or s[0] <= 2 else 0.8 / np.sqrt(s[0]))).astype(dtype)
        for s in shapes
    ]
    if nudge is None:
        return weights
    signs, eps = np.random.default_rng(nudge), 16 * np.finfo(dtype).eps
    return [(w * (1 + eps * signs.choice([-1, 1], size=w.shape))).astype(dtype) for w in weights]


def draw_target(rng, loss, shape, dtype):
    if loss == "binary_crossentropy":
        return rng.integers(0, 2, shape).astype(dtype)
    if loss.endswith("categorical_crossentropy"):
        classes = rng.integers(0, shape[-1], shape[:-1])
        return classes if loss.startswith("sparse") else np.eye(shape[-1], dtype=dtype)[classes]
    return rng.normal(size=shape).astype(dtype)


# --------------------------------------------------------------------------------------------- running


def make(module, spec, dtype, n_batch=None):
    """A layer of ``keras.layers`` or ``fastrnn.layers`` from ``[class name, arguments]``."""
    name, options = spec
    options = {
        k: make(module, v, dtype) if k in ("layer", "backward_layer") else v for k, v in options.items()
    }
    return getattr(module, name)(dtype=dtype, **options)


def n_states(case):
    name, options = case["layers"][0]
    inner = options["layer"][0] if name == "Bidirectional" else name
    return (2 if inner == "LSTM" else 1) * (2 if name == "Bidirectional" else 1)


def _layer_arrays(case, layer_weights, results=None):
    """The arrays of a layer case that depend on its shapes: weights, initial state, gradients of the results."""
    arrays = draw_arrays(case)
    rng, dtype = arrays["rng"], case["dtype"]
    weights = draw_weights(rng, [w.shape for w in layer_weights], dtype, case.get("nudge"))
    name, options = case["layers"][0]
    units = (options["layer"][1] if name == "Bidirectional" else options)["units"]
    initial = [rng.normal(size=(case["n_batch"], units)).astype(dtype) for _ in range(n_states(case))]
    arrays.update(weights=weights, initial=initial if case["initial_state"] else None)
    return arrays


def _d_results(case, results):
    rng = np.random.default_rng(case["array_seed"] + 1)
    return [rng.normal(size=r.shape).astype(case["dtype"]) for r in results]


def run_layer_keras(case):
    keras = keras_oracle.load()
    layer = make(keras.layers, case["layers"][0], case["dtype"])
    layer.build((None, None, case["n_inputs"]))
    arrays = _layer_arrays(case, layer.get_weights())
    layer.set_weights(arrays["weights"])
    call = {"mask": arrays["mask"], "initial_state": arrays["initial"]}
    results = keras_oracle.forward(layer, arrays["x"], **call)
    results, dx, d_initial, grads = keras_oracle.forward_and_gradients(
        layer, arrays["x"], _d_results(case, results), **call
    )
    return _layer_results(results, dx, grads, d_initial)


def run_layer_fastrnn(case):
    from fastrnn import layers
    from tests.layer_cases import gradients_of, run

    layer = make(layers, case["layers"][0], case["dtype"])
    layer.build((None, None, case["n_inputs"]))
    arrays = _layer_arrays(case, layer.get_weights())
    layer.set_weights(arrays["weights"])
    call = {"mask": arrays["mask"], "initial_state": arrays["initial"]}
    results, _ = run(layer, arrays["x"], **call)
    trained, dx, grads = gradients_of(layer, arrays["x"], _d_results(case, results), training=True, **call)
    for plain, kept in zip(results, trained, strict=True):
        np.testing.assert_allclose(kept, plain, rtol=TOLERANCE[case["dtype"]], atol=TOLERANCE[case["dtype"]])
    return _layer_results(results, dx, grads, layer.d_initial_state if case["initial_state"] else None)


def _layer_results(results, dx, grads, d_initial):
    arrays = {"result": results, "gradient": grads, "d_initial_state": d_initial or []}
    return {"dx": dx} | {f"{name} {k}": a for name, group in arrays.items() for k, a in enumerate(group)}


def run_model(case, sequential, layers, optimizers, input_layer=None, link=None):
    """Predict, train, predict, with each of the case's optimizers from the same weights.

    With ``link`` the model's outputs are logits, and the link makes probabilities of them.
    """
    found = {}
    shape = (case["n_batch"], case["n_steps"], *([] if case["tokens"] else [case["n_inputs"]]))
    for optimizer, settings in case["optimizers"]:
        model = sequential()
        if input_layer is not None:
            model.add(input_layer(shape))
        for spec in case["layers"]:
            model.add(make(layers, spec, case["dtype"]))
        if input_layer is None:
            model.build(shape)
        arrays = draw_arrays(case)
        rng = arrays["rng"]
        shapes = [w.shape for w in model.get_weights()]
        model.set_weights(draw_weights(rng, shapes, case["dtype"], case.get("nudge")))
        x = arrays["x"]
        y = np.asarray(keras_oracle.to_numpy_if_tensor(model.predict_on_batch(x)))
        target = draw_target(rng, case["loss"], y.shape, case["dtype"])
        loss = case["loss"]
        if link is not None:
            y = link(y)
            classes = {"binary": "BinaryCrossentropy", "categorical": "CategoricalCrossentropy"}
            name = classes.get(loss.split("_")[0], "SparseCategoricalCrossentropy")
            loss = getattr(keras_oracle.load().losses, name)(from_logits=True)
        model.compile(optimizer=getattr(optimizers, optimizer)(**settings), loss=loss)
        if input_layer is not None:
            model.run_eagerly = keras_oracle.backend() != "jax"
        losses = [
            model.train_on_batch(x, target, sample_weight=arrays["sample_weight"])
            for _ in range(N_TRAIN_STEPS)
        ]
        after = np.asarray(keras_oracle.to_numpy_if_tensor(model.predict_on_batch(x)))
        found |= {
            f"{optimizer}: output before": y,
            f"{optimizer}: losses": np.array([float(np.ravel(loss)[0]) for loss in losses]),
            f"{optimizer}: output after": after if link is None else link(after),
            **{f"{optimizer}: weight {k}": np.asarray(w) for k, w in enumerate(model.get_weights())},
        }
    return found


def run_keras(case, from_logits=False):
    """Keras's results; ``from_logits`` moves the last activation into the cross-entropy, as Keras on TensorFlow does."""
    keras = keras_oracle.load()
    if case["kind"] == "layer":
        return run_layer_keras(case)
    dtype = "int32" if case["tokens"] else case["dtype"]
    link = None
    if from_logits:
        *body, (name, options) = case["layers"]
        link = {"sigmoid": naive.sigmoid, "softmax": naive.softmax}[options["activation"]]
        case = {**case, "layers": [*body, [name, {**options, "activation": None}]]}
    return run_model(
        case,
        keras.Sequential,
        keras.layers,
        keras.optimizers,
        lambda shape: keras.layers.Input(batch_shape=shape, dtype=dtype),
        link,
    )


def run_fastrnn(case):
    if case["kind"] == "layer":
        return run_layer_fastrnn(case)
    from fastrnn import Sequential, layers, optimizers

    return run_model(case, Sequential, layers, optimizers)


# --------------------------------------------------------------------------------------------- comparing


def distance(actual, expected):
    """The largest difference, relative to the largest entry where that is above 1; infinite if shapes differ."""
    if actual.shape != expected.shape:
        return np.inf
    if not expected.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        d = float(np.abs(actual.astype(np.float64) - expected).max()) / max(
            1.0, float(np.abs(expected).max())
        )
    return np.inf if np.isnan(d) else d


def differences(actual, expected, tolerance):
    """The arrays that differ, as text; empty if all agree."""
    if set(actual) != set(expected):
        return [f"results {sorted(actual)} where Keras has {sorted(expected)}"]
    found = {name: distance(actual[name], expected[name]) for name in expected}
    return [f"{name}: {d:.2g}" for name, d in found.items() if not d <= tolerance]


def missing(case):
    """Names of layers in a case that fastrnn does not have."""
    from fastrnn import layers

    return sorted({name for name, _ in case["layers"]} - set(dir(layers)))


def usable(case):
    """Whether this backend of Keras can be the oracle of a case."""
    for name, options in case["layers"]:
        inner = [options[k] for k in ("layer", "backward_layer") if k in options] or [[name, options]]
        for cell, o in inner:
            if (
                (cell, case["dtype"], keras_oracle.backend()) == ("GRU", "float32", "jax")
                and o.get("reset_after", True)
                and not o.get("use_bias", True)
            ):
                # Its float32 state times its kernel is float64 there, as floatx is, and the time loop refuses that.
                return False
            if case["mask"] is None:
                continue
            flags = {
                "unroll": o.get("unroll", False),
                "go_backwards": o.get("go_backwards", False) or name == "Bidirectional",
                "zero_output_for_mask": o.get("zero_output_for_mask", False)
                or (name == "Bidirectional" and o.get("return_sequences", False)),
            }
            state = True if case.get("initial_state") else None
            if keras_oracle.masked_loop_differs(mask=True, initial_state=state, **flags):
                return False
    return True


def explodes(results):
    return not all(np.isfinite(r).all() and (np.abs(r) < 1e6).all() for r in results.values())


def compare(case):
    """Both runs of a case and what differs; the cross-entropy of a saturated probability as on TensorFlow."""
    from fastrnn.exceptions import NonFiniteLossError

    try:
        expected = run_keras(case)
    except RuntimeError as error:
        if "between 0 and 1" not in str(error):  # PyTorch's way to say that a probability is NaN
            raise
        expected = {"output": np.array([np.nan])}
    if explodes(expected):  # fastrnn may refuse to train such a network at all
        return None, expected, []
    try:
        actual = run_fastrnn(case)
    except NonFiniteLossError:
        # Probabilities are finite however large the logits are, so that an explosion shows in these only.
        if not case["loss"].endswith("crossentropy") or not explodes(
            expected := run_keras(case, from_logits=True)
        ):
            raise
        return None, expected, []
    found = differences(actual, expected, TOLERANCE[case["dtype"]])
    if found and case.get("loss", "").endswith("crossentropy"):
        from_logits = run_keras(case, from_logits=True)
        fewer = differences(actual, from_logits, TOLERANCE[case["dtype"]])
        if len(fewer) < len(found):
            expected, found = from_logits, fewer
    return actual, expected, found


def rounding_decides(case, actual, expected):
    """Whether Keras's own results move as far as ours are away when its weights' last digits change."""
    still, *moved = (run_keras({**case, "nudge": seed}) for seed in (None, 0, 1, 2))
    return all(
        distance(actual[name], expected[name])
        <= TOLERANCE[case["dtype"]] + max(distance(m[name], still[name]) for m in moved)
        for name in expected
    )


def check(case):
    """Run a case both ways; returns ``(verdict, details)`` with one of the keys of ``VERDICTS``."""
    actual, expected, found = compare(case)
    if explodes(expected):
        return "explodes", []
    if not found:
        return "agrees", []
    if case["dtype"] == "float64":
        return ("sensitive" if rounding_decides(case, actual, expected) else "differs"), found
    in_double = {**copy.deepcopy(case), "dtype": "float64"}
    ours, exact, wrong = compare(in_double)
    if wrong:
        verdict = "sensitive" if rounding_decides(in_double, ours, exact) else "differs"
        return verdict, [f"in float64: {w}" for w in wrong]
    worse = [
        f"{name}: {distance(actual[name], exact[name]):.2g} from the float64 result, Keras {limit:.2g}"
        for name in exact
        if not distance(actual[name], exact[name])
        <= 3 * (limit := distance(expected[name], exact[name])) + TOLERANCE["float32"]
    ]
    if not worse:
        return "float32", found
    return ("sensitive" if rounding_decides(case, actual, expected) else "differs"), worse


def cases(seed, n):
    """``n`` drawn cases that the backend can judge."""
    index = 0
    while n:
        case = draw_case(np.random.default_rng([*np.atleast_1d(seed), index]))
        index += 1
        if usable(case) and not missing(case):
            yield case
            n -= 1


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m tests.differential", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=["layer", "model"], help="only cases of this kind")
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    start, counts = time.perf_counter(), dict.fromkeys(VERDICTS, 0)
    for number, case in enumerate(cases(args.seed, args.cases)):
        if args.kind and case["kind"] != args.kind:
            continue
        try:
            verdict, details = check(case)
        except Exception as error:  # a crash is a difference like any other
            verdict, details = "differs", [f"{type(error).__name__}: {error}"]
        counts[verdict] += 1
        if number % 20 == 19:
            keras_oracle.forget_compiled()
        if verdict == "differs":
            print(f"case {number} differs: {'; '.join(details)}\n  {json.dumps(case)}", flush=True)
        if number % 100 == 99:
            print(
                f"{number + 1} cases, {time.perf_counter() - start:.0f} s, {counts['differs']} differ",
                flush=True,
            )
    numbers = ", ".join(f"{counts[verdict]} {words}" for verdict, words in VERDICTS.items())
    print(
        f"seed {args.seed}, Keras on {keras_oracle.backend()}: {numbers}; {time.perf_counter() - start:.0f} s"
    )
    return 1 if counts["differs"] else 0


if __name__ == "__main__":
    sys.exit(main())
