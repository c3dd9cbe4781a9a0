"""Cold and warm start as pytest benchmarks. A round is a whole process; the scripts are in `start`, which prints a table."""

import pytest

from benchmarks import start
from fastrnn.bench.peers import installed


@pytest.mark.parametrize("state", ["cold", "warm"])
@pytest.mark.parametrize("library", [*start.MODULES])
def bench_start(benchmark, library, state, tmp_path):
    if not installed(*start.MODULES[library]):
        pytest.skip(f"{' and '.join(start.MODULES[library])} not installed")
    if library != "fastrnn" and state == "cold":
        pytest.skip(f"{library} keeps no kernels on disk: every start is the same")
    folders = iter(range(100))

    def setup():
        if state == "warm":
            return (library, tmp_path), {}
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        return (library, folder), {}

    if state == "warm":
        start.first_fit(library, tmp_path)
    times = []
    benchmark.group = "start"
    benchmark.pedantic(
        lambda *args: times.append(start.first_fit(*args)), setup=setup, rounds=3, iterations=1
    )
    for name in times[0]:
        benchmark.extra_info[f"{name}_s"] = sorted(row[name] for row in times)[len(times) // 2]
    print(f"\n{library}, {state}: " + ", ".join(f"{k} {v:.2f}" for k, v in benchmark.extra_info.items()))


@pytest.mark.parametrize("library", ["fastrnn", "torch"])
def bench_digits(benchmark, library, tmp_path):
    if not installed(*start.MODULES[library]):
        pytest.skip(f"{library} not installed")
    start.save_digits(tmp_path)
    start.digits(library, tmp_path)  # fills the cache
    benchmark.group = "digits, whole process"
    benchmark.pedantic(start.digits, args=(library, tmp_path), rounds=3, iterations=1)
