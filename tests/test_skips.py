"""The plug-in that counts skipped tests as failed."""

import pytest

from tests import skips

pytest_plugins = ["pytester"]

SUITE = """
import pytest

@pytest.mark.parametrize("name", ["a b", "c"])
def test_peer(name):
    pytest.skip("could not import 'peer'")

@pytest.mark.skipif(True, reason="the platform has no fork")
def test_fork():
    pass

@pytest.mark.xfail(reason="known")
def test_known():
    assert False

def test_runs():
    pass
"""
WHOLE_FILE = "import pytest\npytest.importorskip('a_module_that_does_not_exist')\ndef test_a(): pass\n"


@pytest.fixture
def suite(pytester, monkeypatch):
    monkeypatch.delenv("FASTRNN_DATA", raising=False)
    pytester.makepyfile(test_some=SUITE, test_whole_file=WHOLE_FILE)
    # The other plug-ins take a second of each run to import.
    off = [
        word for name in ("cacheprovider", "hypothesispytest", "benchmark") for word in ("-p", f"no:{name}")
    ]
    return lambda *args: pytester.runpytest_inprocess("-p", "tests.skips", *off, *args)


def test_skips_are_only_counted_without_the_option(suite):
    suite().assert_outcomes(passed=1, skipped=4, xfailed=1)


def test_no_skips_fails_tests_and_files_but_not_allowed_reasons(suite):
    result = suite("--no-skips", "--continue-on-collection-errors")
    result.assert_outcomes(passed=1, skipped=1, xfailed=1, failed=2, errors=1)
    result.stdout.fnmatch_lines(["*does not allow this reason: could not import 'peer'*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("processes", [1, 2])
def test_write_skipped_names_what_a_second_run_can_be_given(processes, suite, pytester):
    several = [] if processes == 1 else ["-n", str(processes)]
    suite("--write-skipped", "names.txt", *several).assert_outcomes(passed=1, skipped=4, xfailed=1)
    names = (pytester.path / "names.txt").read_text().splitlines()
    expected = [
        "test_whole_file.py",
        "test_some.py::test_peer[a b]",
        "test_some.py::test_peer[c]",
        "test_some.py::test_fork",
    ]
    assert (names if processes == 1 else sorted(names)) == (expected if processes == 1 else sorted(expected))
    suite("@names.txt").assert_outcomes(skipped=4)


def test_missing_data_is_allowed_only_where_no_folder_is_named(monkeypatch):
    reason = "no real data: set FASTRNN_DATA to the folder with imdb.jsonl.gz, sms_spam.csv, ..."
    monkeypatch.delenv("FASTRNN_DATA", raising=False)
    assert skips.is_allowed(reason)
    monkeypatch.setenv("FASTRNN_DATA", "/nowhere")
    assert not skips.is_allowed(reason)
