"""All libraries as parameters of a benchmark, and the contender for given parameters."""

from __future__ import annotations

import pytest

from fastrnn.bench.cases import Case
from fastrnn.bench.ours import fastrnn_contenders
from fastrnn.bench.peers import PEERS, Contender, installed, thread_counts

INFERENCE_ONLY = ("onnxruntime", "openvino")
LIBRARIES = [pytest.param("fastrnn", str(n), id=f"fastrnn-{n}threads") for n in thread_counts()]
for _library, (_modules, _) in PEERS.items():
    _marks = (
        [] if installed(*_modules) else [pytest.mark.skip(reason=f"{' and '.join(_modules)} not installed")]
    )
    _counts = ("all",) if _library in ("keras-jax", "jax") else tuple(map(str, thread_counts()))
    LIBRARIES += [pytest.param(_library, n, id=f"{_library}-{n}threads", marks=_marks) for n in _counts]


def contender(case: Case, library: str, threads: str) -> Contender:
    """The contender; skips the benchmark if the library cannot run the case."""
    make = fastrnn_contenders if library == "fastrnn" else PEERS[library][1]
    for candidate in make(case):
        if candidate.threads == threads:
            return candidate
    pytest.skip(f"{library} has no {case.kind} in {case.dtype} with {threads} threads")
