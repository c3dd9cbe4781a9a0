"""The published set-ups on real data reach the published figures; python -m benchmarks.real_data runs them at length."""

import numpy as np
import pytest

from fastrnn import datasets

pytestmark = pytest.mark.needs_data


@pytest.fixture(scope="module")
def jobs():
    from benchmarks import real_data

    return real_data


@pytest.fixture(params=["japanese_vowels", "sms_spam.csv", "imdb.jsonl.gz"])
def folder(request):
    """The data folder, or a skip that says what is missing."""
    try:
        found = datasets.data_folder()
    except datasets.DataNotFoundError as error:
        pytest.skip(str(error))
    if not (found / request.param).exists():
        pytest.skip(f"{found / request.param} is missing")
    return found


@pytest.mark.parametrize("folder", ["japanese_vowels"], indirect=True)
def test_vowels_reach_096_over_five_seeds(jobs, folder):
    accuracy = [jobs.vowels(seed, folder=folder, n_jobs=1)["test_accuracy"] for seed in range(5)]
    assert np.mean(accuracy) >= 0.96, accuracy


@pytest.mark.parametrize("folder", ["sms_spam.csv"], indirect=True)
def test_sms_reaches_the_published_accuracy(jobs, folder):
    best = [jobs.sms("simple_rnn", seed, folder=folder, threads=1)["best_val_accuracy"] for seed in range(3)]
    assert np.mean(best) >= 0.972, best


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("folder", ["imdb.jsonl.gz"], indirect=True)
@pytest.mark.parametrize(("cell", "least"), [("simple_rnn", 0.84), ("lstm", 0.88)])
def test_imdb_reaches_the_published_accuracy(jobs, folder, cell, least):
    result = jobs.imdb(cell, folder=folder)
    assert result["best_val_accuracy"] >= least, result["curves"]["val_accuracy"]
