import gzip
import hashlib
import http.server
import json
import re
import sys
import threading
import time

import numpy as np
import pytest

from fastrnn import datasets


def test_airline_is_shipped():
    series = datasets.load_airline()
    assert series.values.shape == series.time.shape == (144,)
    assert series.values[0] == 112
    assert series.values[-1] == 432
    assert series.values.sum() == 40363
    assert series.time[0] == np.datetime64("1949-01")
    assert np.all(np.diff(series.time) == np.timedelta64(1, "M"))


LOADERS = [
    datasets.load_etth1,
    datasets.load_vic_elec,
    datasets.load_japanese_vowels,
    datasets.load_sms_spam,
    datasets.load_imdb,
    datasets.load_federalist,
]


@pytest.mark.parametrize("loader", LOADERS, ids=lambda f: f.__name__)
def test_missing_files_say_where_they_come_from(loader, tmp_path, monkeypatch):
    with pytest.raises(datasets.DataNotFoundError, match="is missing; it comes from"):
        loader(folder=tmp_path)
    monkeypatch.delenv("FASTRNN_DATA", raising=False)
    with pytest.raises(datasets.DataNotFoundError, match="set the environment variable FASTRNN_DATA"):
        loader()
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(datasets.DataNotFoundError, match="FASTRNN_DATA=.*nowhere' is no folder"):
        loader()
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    with pytest.raises(datasets.DataNotFoundError, match="is missing"):
        loader()


@pytest.mark.parametrize("loader", LOADERS[:3], ids=lambda f: f.__name__)
def test_download_is_offered_where_a_file_is_missing(loader, tmp_path):
    with pytest.raises(datasets.DataNotFoundError, match="download=True downloads it"):
        loader(tmp_path)
    with pytest.raises(ValueError, match="download='yes': give True or False"):
        loader(tmp_path, download="yes")


ETT = b"date,HUFL,OT\n2016-07-01 00:00:00,5.8,30.5\n2016-07-01 01:00:00,5.7,27.8\n"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server with ETTh1.csv, a user's cache folder, and no data folder; gives the cache folder and the requests."""
    pytest.importorskip("pooch", reason="the extra 'data' is not installed")
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200 if self.path == "/ETTh1.csv" else 404)
            self.send_header("Content-Length", str(len(ETT)))
            self.end_headers()
            self.wfile.write(ETT)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("FASTRNN_DATA", raising=False)
        monkeypatch.setattr(datasets, "_cache_folder", lambda: tmp_path / "cache")
        sha256 = hashlib.sha256(ETT).hexdigest()
        offered = {"series/ETTh1.csv": datasets.Download(f"{url}/ETTh1.csv", sha256)}
        offered["series/vic_elec.csv"] = datasets.Download(f"{url}/vic_elec.csv", sha256)
        monkeypatch.setattr(datasets, "DOWNLOADS", offered)
        yield tmp_path / "cache", requests
        server.shutdown()
        thread.join()


def test_download_goes_to_the_cache_once(published):
    cache, requests = published
    with pytest.raises(datasets.DataNotFoundError, match="set the environment variable FASTRNN_DATA"):
        datasets.load_etth1()
    assert not requests
    series = datasets.load_etth1(download=True)
    np.testing.assert_array_equal(series.values, [[5.8, 30.5], [5.7, 27.8]])
    assert (cache / "series" / "ETTh1.csv").read_bytes() == ETT
    for again in (datasets.load_etth1(download=True), datasets.load_etth1()):
        np.testing.assert_array_equal(again.values, series.values)
    assert requests == ["/ETTh1.csv"]


def test_download_goes_to_the_named_folder_and_leaves_files_there_alone(published, tmp_path):
    _, requests = published
    folder = tmp_path / "mine"
    folder.mkdir()
    assert datasets.load_etth1(folder, download=True).names == ("HUFL", "OT")
    # A file of the user's own stays, whatever its contents.
    (folder / "series" / "ETTh1.csv").write_bytes(ETT.replace(b"HUFL", b"MINE"))
    assert datasets.load_etth1(folder, download=True).names == ("MINE", "OT")
    assert requests == ["/ETTh1.csv"]


def test_download_refuses_other_contents_and_missing_pages(published, monkeypatch):
    cache, _ = published
    with pytest.raises(datasets.DataNotFoundError, match=r"vic_elec.csv could not be downloaded from .*404"):
        datasets.load_vic_elec(download=True)
    wrong = datasets.DOWNLOADS["series/ETTh1.csv"]._replace(sha256="0" * 64)
    monkeypatch.setitem(datasets.DOWNLOADS, "series/ETTh1.csv", wrong)
    with pytest.raises(datasets.DataNotFoundError, match=r"(?i)ETTh1.csv could not be downloaded.*hash"):
        datasets.load_etth1(download=True)
    assert not list(cache.rglob("*.csv"))


def test_download_without_pooch_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r'pip install "fastrnn\[data\]"'):
        datasets.load_etth1(tmp_path, download=True)


@pytest.mark.needs_data
def test_downloads_are_the_files_that_the_tests_use(data):
    for name, download in datasets.DOWNLOADS.items():
        assert hashlib.sha256((data / name).read_bytes()).hexdigest() == download.sha256, name


TS = """#comment
@problemName x
@timeStamps false
@classLabel true a b
@data
1,2,3:4,5,6:a
7,?:9,10:b
"""


def test_read_ts_gives_ragged_sequences(tmp_path):
    path = tmp_path / "x.ts"
    path.write_text(TS)
    X, y = datasets.read_ts(path)
    np.testing.assert_array_equal(X[0], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(X[1], [[7, 9], [np.nan, 10]])
    assert X[0].dtype == np.float32
    assert y.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2:a\n", "no @data line"),
        (TS.replace("@timeStamps false", "@timeStamps true"), "time stamps"),
        (TS.replace("@classLabel true a b", "@classLabel false"), "no class labels"),
        (TS.replace("4,5,6", "4,5"), "case 1 differ in length"),
    ],
)
def test_read_ts_rejects(text, message, tmp_path):
    path = tmp_path / "x.ts"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        datasets.read_ts(path)


def test_imdb_reads_one_half(tmp_path):
    rows = [{"split": s, "label": i, "text": f"{s} {i}"} for s in ("train", "test") for i in (0, 1)]
    with gzip.open(tmp_path / "imdb.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    texts, y = datasets.load_imdb("test", folder=tmp_path)
    assert texts == ["test 0", "test 1"]
    assert y.tolist() == [0, 1]
    with pytest.raises(ValueError, match="split='valid'"):
        datasets.load_imdb("valid", folder=tmp_path)


def test_sms_spam_reads_latin_1_and_unnamed_columns(tmp_path):
    (tmp_path / "sms_spam.csv").write_bytes(
        'v1,v2,,,\nham,"caf\xe9, yes",,,\nspam,win \xa3100,,,\n'.encode("latin-1")
    )
    texts, y = datasets.load_sms_spam(tmp_path)
    assert texts == ["caf\xe9, yes", "win \xa3100"]
    assert y.tolist() == [0, 1]


def test_federalist_drops_the_line_that_names_the_author(tmp_path):
    for author in datasets.Federalist._fields:
        (tmp_path / "federalist" / author).mkdir(parents=True)
    for number in (10, 2):
        path = tmp_path / "federalist" / "madison" / f"paper_{number}.txt"
        path.write_text(f"Paper {number}\n\nHAMILTON AND MADISON\n\nText by Madison\n")
    papers = datasets.load_federalist(tmp_path)
    assert [text.split()[1] for text in papers.madison] == ["2", "10"]
    assert all("MADISON" not in text and "Text by Madison" in text for text in papers.madison)
    assert "MADISON" in datasets.load_federalist(tmp_path, drop_author_line=False).madison[0]


PAPER = """ 43

A Title
From the New York Packet. Tuesday, January 15, 1788.

HAMILTON AND MADISON

To the People of the State of New York:

IT IS not  a little
remarkable.

PUBLIUS.

1 A footnote.
"""


def test_federalist_body_is_what_the_author_wrote(tmp_path):
    for author in datasets.Federalist._fields:
        (tmp_path / "federalist" / author).mkdir(parents=True)
        (tmp_path / "federalist" / author / "1.txt").write_text(PAPER)
    (tmp_path / "federalist" / "unknown" / "1.txt").write_text("No head,\nno end")
    papers = datasets.load_federalist(tmp_path, body_only=True)
    assert papers.hamilton == ["IT IS not a little remarkable."]
    assert papers.unknown == ["No head, no end"]


def test_federalist_head_gives_number_and_authors():
    assert datasets.federalist_head(PAPER) == (43, ("hamilton", "madison"))
    assert datasets.federalist_head("No head") == (None, ())


@pytest.fixture
def data():
    try:
        return datasets.data_folder()
    except datasets.DataNotFoundError as error:
        pytest.skip(str(error))


def load(loader, *args, **kwargs):
    try:
        return loader(*args, **kwargs)
    except datasets.DataNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.needs_data
def test_real_series(data):
    etth1 = load(datasets.load_etth1, data)
    assert etth1.values.shape == (17420, 7)
    assert etth1.names[-1] == "OT"
    demand = load(datasets.load_vic_elec, data)
    assert demand.values.shape == (52608, 3)
    for series in (etth1, demand):
        assert np.isfinite(series.values).all()
        assert len(np.unique(np.diff(series.time))) == 1
    assert set(np.unique(demand.values[:, 2])) == {0, 1}


@pytest.mark.needs_data
def test_real_vowels(data):
    vowels = load(datasets.load_japanese_vowels, data)
    assert len(vowels.X_train) == len(vowels.y_train) == 270
    assert len(vowels.X_test) == len(vowels.y_test) == 370
    lengths = [len(x) for x in vowels.X_train + vowels.X_test]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert {x.shape[1] for x in vowels.X_train + vowels.X_test} == {12}


@pytest.mark.needs_data
def test_real_texts(data):
    texts, y = load(datasets.load_sms_spam, data)
    assert (len(texts), y.sum()) == (5572, 747)
    texts, y = load(datasets.load_imdb, folder=data)
    assert (len(texts), y.sum()) == (25000, 12500)
    papers = load(datasets.load_federalist, data)
    assert [len(group) for group in papers] == [17, 15, 5]
    heads = [text[:400] for group in papers for text in group]
    assert not any("HAMILTON" in head or "MADISON" in head for head in heads)
    heads = [
        [datasets.federalist_head(text) for text in group]
        for group in datasets.load_federalist(data, drop_author_line=False)
    ]
    assert {names for _, names in heads[0]} == {("hamilton",)}
    assert {names[-1] for _, names in heads[1]} == {"madison"}
    assert sorted(number for number, _ in heads[2]) == [17, 30, 38, 43, 60]
    for group in datasets.load_federalist(data, body_only=True):
        assert min(map(len, group)) > 5000
        assert not any(mark in text for text in group for mark in ("PUBLIUS", "New York Packet", "\n", "  "))


@pytest.mark.parametrize(
    "pattern", [r for r in vars(datasets).values() if isinstance(r, re.Pattern)], ids=lambda r: r.pattern[:20]
)
@pytest.mark.parametrize(
    "filling",
    ["\n", " ", "\n ", "A", "MADISON ", "MADISON\n", "To the People of the State of New York ", "1"],
)
def test_patterns_over_texts_take_time_in_proportion(pattern, filling):
    """Ten times the text, at most some thirty times the time (a quadratic pattern takes a hundred times)."""

    def seconds(n):
        text = filling * (n // len(filling))
        best = np.inf
        for _ in range(5):
            start = time.thread_time()  # other processes take none of it
            pattern.sub("", text)
            best = min(best, time.thread_time() - start)
        return best

    assert seconds(200_000) < 30 * max(seconds(20_000), 1e-3)
