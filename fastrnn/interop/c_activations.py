"""Activations in C99. ``@`` is replaced by the suffix of constants and functions, which is ``f`` for float."""

from __future__ import annotations

__all__ = ["ELEMENTWISE", "NEEDS", "ROWWISE"]

#: Name -> the value for ``x``.
ELEMENTWISE = {
    "tanh": "tanh@(x)",
    "sigmoid": "x < 0.0@ ? exp@(x) / (1.0@ + exp@(x)) : 1.0@ / (1.0@ + exp@(-x))",
    "relu": "x < 0.0@ ? 0.0@ : x",
    "relu6": "x < 0.0@ ? 0.0@ : x > 6.0@ ? 6.0@ : x",
    "leaky_relu": "x < 0.0@ ? 0.2@ * x : x",
    "elu": "x > 0.0@ ? x : expm1@(x)",
    "celu": "x > 0.0@ ? x : expm1@(x)",
    "selu": "1.0507009873554805@ * (x > 0.0@ ? x : 1.6732632423543772@ * expm1@(x))",
    "softplus": "(x < 0.0@ ? 0.0@ : x) + log1p@(exp@(-fabs@(x)))",
    "softsign": "x / (1.0@ + fabs@(x))",
    "soft_shrink": "x > 0.5@ ? x - 0.5@ : x < -0.5@ ? x + 0.5@ : 0.0@",
    "hard_shrink": "fabs@(x) <= 0.5@ ? 0.0@ : x",
    "tanh_shrink": "x - tanh@(x)",
    "hard_tanh": "x < -1.0@ ? -1.0@ : x > 1.0@ ? 1.0@ : x",
    "hard_sigmoid": "x <= -3.0@ ? 0.0@ : x >= 3.0@ ? 1.0@ : x * 0.16666666666666666@ + 0.5@",
    "hard_silu": "x * {hard_sigmoid}(x)",
    "silu": "x * {sigmoid}(x)",
    "mish": "x * tanh@({softplus}(x))",
    "gelu": "0.5@ * x * erfc@(-0.7071067811865476@ * x)",
    "gelu_approximate": "x * {sigmoid}(1.5957691216057308@ * (x + 0.044715@ * x * x * x))",
    "exponential": "exp@(x)",
    "log_sigmoid": "(x < 0.0@ ? x : 0.0@) - log1p@(exp@(-fabs@(x)))",
    "sparse_plus": "x <= -1.0@ ? 0.0@ : x < 1.0@ ? 0.25@ * (x + 1.0@) * (x + 1.0@) : x",
    "sparse_sigmoid": "x <= -1.0@ ? 0.0@ : x >= 1.0@ ? 1.0@ : 0.5@ * (x + 1.0@)",
    "squareplus": "x < 0.0@ ? 2.0@ / (sqrt@(x * x + 4.0@) - x) : 0.5@ * (x + sqrt@(x * x + 4.0@))",
}
ELEMENTWISE["swish"], ELEMENTWISE["hard_swish"] = ELEMENTWISE["silu"], ELEMENTWISE["hard_silu"]

#: Name -> the other activations that it calls.
NEEDS = {
    name: [other for other in ELEMENTWISE if f"{{{other}}}" in value] for name, value in ELEMENTWISE.items()
}

#: Name -> the body of a function of ``v``, an array of ``n`` values.
ROWWISE = {
    "softmax": """
    REAL most = v[0], sum = 0.0@;
    int j;
    for (j = 1; j < n; j++) if (v[j] > most) most = v[j];
    for (j = 0; j < n; j++) { v[j] = exp@(v[j] - most); sum += v[j]; }
    for (j = 0; j < n; j++) v[j] /= sum;""",
    "log_softmax": """
    REAL most = v[0], sum = 0.0@;
    int j;
    for (j = 1; j < n; j++) if (v[j] > most) most = v[j];
    for (j = 0; j < n; j++) sum += exp@(v[j] - most);
    for (j = 0; j < n; j++) v[j] -= most + log@(sum);""",
}
