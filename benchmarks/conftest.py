"""pytest benchmarks: all contenders of a case form one group, so that pytest-benchmark prints ratios too.

python -m pytest benchmarks                 all of them
python -m pytest benchmarks -k lstm         one cell
"""

import os

import pytest

# Keras reads this variable when it is imported.
os.environ.setdefault("KERAS_BACKEND", "jax")


def pytest_collection_modifyitems(items):
    for item in items:
        # Benchmarks do not test warnings, and compiling the larger networks of the peers takes long.
        item.add_marker(pytest.mark.filterwarnings("default"))
        item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture
def race(benchmark):
    """Time one contender of a case; times are grouped by case."""

    def run(contender, group):
        benchmark.group = group
        benchmark.extra_info.update(library=contender.library, threads=contender.threads)
        contender.prepare()
        for _ in range(2):  # compile before pytest-benchmark calibrates and measures
            contender.run()
        benchmark(contender.run)

    return run
