"""pytest benchmarks: every contender of a case in one group, so that pytest-benchmark prints the ratios beside the times.

python -m pytest benchmarks                 all of them
python -m pytest benchmarks -k lstm         one cell
"""

import os

import pytest

# Before anything imports Keras.
os.environ.setdefault("KERAS_BACKEND", "jax")


def pytest_collection_modifyitems(items):
    for item in items:
        # A figure is no test of warnings, and compiling the larger networks of the peers takes its time.
        item.add_marker(pytest.mark.filterwarnings("default"))
        item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture
def race(benchmark):
    """Time one contender of a case; times are grouped by case."""

    def run(contender, group):
        benchmark.group = group
        benchmark.extra_info.update(library=contender.library, threads=contender.threads)
        contender.prepare()
        for _ in range(2):  # compiles; it must not count, nor mislead the calibration
            contender.run()
        benchmark(contender.run)

    return run
