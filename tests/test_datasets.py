import gzip
import hashlib
import http.server
import io
import itertools
import json
import re
import sys
import tarfile
import threading
import time
import zipfile

import numpy as np
import pytest

from fastrnn import datasets
from fastrnn.datasets import files, texts, unpack
from tests.scripts import run_script


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


@pytest.mark.parametrize("loader", LOADERS, ids=lambda f: f.__name__)
def test_download_is_offered_where_a_file_is_missing(loader, tmp_path):
    fetch = loader.__name__.replace("load", "fetch")
    assert callable(getattr(datasets, fetch))
    with pytest.raises(datasets.DataNotFoundError, match=rf"{fetch}\(\) downloads it"):
        loader(folder=tmp_path)


DOWNLOADS = dict(files.DOWNLOADS)
ETT = b"date,HUFL,OT\n2016-07-01 00:00:00,5.8,30.5\n2016-07-01 01:00:00,5.7,27.8\n"


MESSAGES = 'ham\tGo until "jurong point\nspam\tWin \xa3100\tnow"\nham\tOk\n'


def tar_of(contents):
    """A gzipped tar archive of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return buffer.getvalue()


def imdb_archive():
    """Reviews as in aclImdb_v1.tar.gz: a file for each, its number and rating in its name, in any order."""
    reviews = {
        f"aclImdb/{split}/{side}/{number}_{rating}.txt": f"{split} {side} {number} \xe9\n".encode()
        for split in ("test", "train")
        for side, rating in (("pos", 9), ("neg", 2))
        for number in (10, 2)
    }
    return tar_of({"aclImdb/README": b"", "aclImdb/train/unsup/0_0.txt": b"no label", **reviews})


def federalist_book():
    """A book like Project Gutenberg's: 85 numbered papers, and one of them twice."""
    text = "Title\r\n\r\n" + "".join(
        f"FEDERALIST{'.' * (number == 1)} No. {number}\r\n\r\nTo the People of the State of New York:\r\n\r\n"
        f"PAPER {number} is here.\r\n\r\nPUBLIUS.\r\n\r\n"
        for number in (*range(1, 71), 70, *range(71, 86))
    )
    return text.encode("ascii")


def sms_archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as files:
        files.writestr("readme", "1. DESCRIPTION")
        files.writestr("SMSSpamCollection", MESSAGES.encode())
    return buffer.getvalue()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server of small files, a user's cache folder, and no data folder; gives the cache folder and the requests."""
    pytest.importorskip("pooch", reason="the extra 'data' is not installed")
    requests = []
    offers = {
        "/ETTh1.csv": ETT,
        "/imdb.tgz": imdb_archive(),
        "/18.txt": federalist_book(),
        "/sms.zip": sms_archive(),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            contents = offers.get(self.path)
            self.send_response(404 if contents is None else 200)
            self.send_header("Content-Length", str(len(contents or b"")))
            self.end_headers()
            self.wfile.write(contents or b"")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("FASTRNN_DATA", raising=False)
        monkeypatch.setattr(files, "_cache_folder", lambda: tmp_path / "cache")
        pages = {"imdb.jsonl.gz": "/imdb.tgz", "federalist": "/18.txt", "SMSSpamCollection": "/sms.zip"}
        pages |= {"series/ETTh1.csv": "/ETTh1.csv", "series/vic_elec.csv": "/vic_elec.csv"}
        offered = {
            name: files.Download(
                url + page, hashlib.sha256(offers.get(page, b"")).hexdigest(), DOWNLOADS[name].unpack
            )
            for name, page in pages.items()
        }
        monkeypatch.setattr(files, "DOWNLOADS", offered)
        yield tmp_path / "cache", requests
        server.shutdown()
        thread.join()


def test_download_goes_to_the_cache_once(published):
    cache, requests = published
    with pytest.raises(datasets.DataNotFoundError, match="set the environment variable FASTRNN_DATA"):
        datasets.load_etth1()
    assert not requests
    series = datasets.fetch_etth1()
    np.testing.assert_array_equal(series.values, [[5.8, 30.5], [5.7, 27.8]])
    assert (cache / "series" / "ETTh1.csv").read_bytes() == ETT
    for again in (datasets.fetch_etth1(), datasets.load_etth1()):
        np.testing.assert_array_equal(again.values, series.values)
    assert requests == ["/ETTh1.csv"]


def test_fetched_reviews_are_in_order_and_both_halves_come_from_one_download(published):
    cache, requests = published
    texts, y = datasets.fetch_imdb()
    assert texts == [f"train {side} {number} \xe9\n" for side in ("neg", "pos") for number in (2, 10)]
    assert y.tolist() == [0, 0, 1, 1]
    assert datasets.fetch_imdb("test")[0] == [text.replace("train", "test") for text in texts]
    assert datasets.load_imdb()[0] == texts
    with pytest.raises(ValueError, match="split='valid'"):
        datasets.fetch_imdb("valid")
    assert requests == ["/imdb.tgz"]
    assert [path.name for path in cache.iterdir()] == ["imdb.jsonl.gz"]  # the archive is not kept


def test_fetched_papers_are_those_of_the_folders(published):
    cache, requests = published
    papers = datasets.fetch_federalist(body_only=True)
    assert [len(group) for group in papers] == [17, 15, 5]
    assert papers.hamilton[:2] == ["PAPER 1 is here.", "PAPER 6 is here."]
    assert papers.madison[-1] == "PAPER 48 is here."
    assert papers.unknown == [f"PAPER {number} is here." for number in (43, 38, 60, 17, 30)]
    assert datasets.load_federalist(body_only=True) == papers
    assert datasets.federalist_head(datasets.fetch_federalist().madison[0])[0] == 10
    assert requests == ["/18.txt"]
    assert [path.name for path in cache.iterdir()] == ["federalist"]


def test_fetched_messages_keep_quotation_marks_and_letters(published, tmp_path):
    _, requests = published
    texts, y = datasets.fetch_sms_spam()
    assert texts == ['Go until "jurong point', 'Win \xa3100\tnow"', "Ok"]
    assert y.tolist() == [0, 1, 0]
    assert datasets.load_sms_spam()[0] == texts
    assert requests == ["/sms.zip"]
    # Another form of the same data is taken as it is.
    (tmp_path / "sms_spam.csv").write_text("v1,v2\nspam,mine\n")
    assert datasets.fetch_sms_spam(tmp_path)[0] == ["mine"]
    assert requests == ["/sms.zip"]


def test_download_that_can_not_be_unpacked_leaves_nothing(published, monkeypatch):
    cache, _ = published

    def fails(archive, target):
        target.write_bytes(b"half of it")
        raise KeyboardInterrupt

    right = files.DOWNLOADS["imdb.jsonl.gz"]
    monkeypatch.setitem(files.DOWNLOADS, "imdb.jsonl.gz", right._replace(unpack=fails))
    with pytest.raises(KeyboardInterrupt):
        datasets.fetch_imdb()
    assert not list(cache.iterdir())


def test_importing_datasets_asks_nothing_of_the_network():
    code = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("the network was used")
socket.socket.connect = socket.getaddrinfo = refuse
import fastrnn.datasets
fastrnn.datasets.load_airline()
import sys
assert "pooch" not in sys.modules
print("quiet")
"""
    done = run_script(code)
    assert (done.returncode, done.stdout.strip()) == (0, "quiet"), done.stderr


def test_download_goes_to_the_named_folder_and_leaves_files_there_alone(published, tmp_path):
    _, requests = published
    folder = tmp_path / "mine"
    folder.mkdir()
    assert datasets.fetch_etth1(folder).names == ("HUFL", "OT")
    # A file of the user's own stays, whatever its contents.
    (folder / "series" / "ETTh1.csv").write_bytes(ETT.replace(b"HUFL", b"MINE"))
    assert datasets.fetch_etth1(folder).names == ("MINE", "OT")
    assert requests == ["/ETTh1.csv"]


def test_download_refuses_other_contents_and_missing_pages(published, monkeypatch):
    cache, _ = published
    with pytest.raises(datasets.DataNotFoundError, match=r"vic_elec.csv could not be downloaded from .*404"):
        datasets.fetch_vic_elec()
    right = files.DOWNLOADS["series/ETTh1.csv"]
    monkeypatch.setitem(files.DOWNLOADS, "series/ETTh1.csv", right._replace(sha256="0" * 64))
    with pytest.raises(datasets.DataNotFoundError, match=r"ETTh1.csv, downloaded .* is damaged") as caught:
        datasets.fetch_etth1()
    for part in (right.sha256, "0" * 64, right.url, "Nothing was kept", "Call again", "FASTRNN_DATA"):
        assert part in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.is_file()]
    monkeypatch.setitem(files.DOWNLOADS, "series/ETTh1.csv", right)
    assert datasets.fetch_etth1().names == ("HUFL", "OT")


@pytest.mark.parametrize("name", list(files.DOWNLOADS))
def test_download_without_a_connection_says_what_to_do(name, published, monkeypatch):
    pooch = pytest.importorskip("pooch", reason="the extra 'data' is not installed")

    def offline(self, url, output_file, pooch):
        raise OSError("no route to host")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", offline)
    monkeypatch.setattr(files, "DOWNLOADS", DOWNLOADS)
    with pytest.raises(
        datasets.DataNotFoundError, match="no route to host. Without a connection: "
    ) as caught:
        files.fetched(None, name)
    for part in (name, DOWNLOADS[name].url, "on another machine", "FASTRNN_DATA"):
        assert part in str(caught.value)


def test_download_without_pooch_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r'pip install "fastrnn\[data\]"'):
        datasets.fetch_etth1(tmp_path)


@pytest.mark.needs_data
def test_downloads_are_the_files_that_the_tests_use(data):
    for name, download in files.DOWNLOADS.items():
        if download.unpack is None:
            assert hashlib.sha256((data / name).read_bytes()).hexdigest() == download.sha256, name


@pytest.mark.needs_data
def test_unpacked_reviews_are_the_ones_that_the_tests_use(data, tmp_path):
    """The reviews of the data folder, put into an archive like the published one in another order, come out equal."""
    with gzip.open(data / "imdb.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in itertools.islice(file, 0, None, 50)]
    names = {"train": "train", "test": "test", 0: "neg", 1: "pos"}
    archive = tmp_path / "aclImdb_v1.tar.gz"
    archive.write_bytes(
        tar_of(
            {
                f"aclImdb/{names[row['split']]}/{names[row['label']]}/{row['id']}_{row['rating']}.txt": row[
                    "text"
                ].encode()
                for row in reversed(rows)
            }
        )
    )
    unpack.reviews(archive, tmp_path / "imdb.jsonl.gz")
    with gzip.open(tmp_path / "imdb.jsonl.gz", "rt", encoding="utf-8") as file:
        assert [json.loads(line) for line in file] == rows


@pytest.mark.needs_data
def test_unpacked_papers_are_the_ones_that_the_tests_use(data, tmp_path):
    """The papers of the data folder, put into a book in the order of their numbers, come out with the same files."""
    paths = sorted((data / "federalist").rglob("*.txt"))
    texts = sorted((path.read_text("utf-8") for path in paths), key=lambda text: int(text.split()[0]))
    (tmp_path / "18.txt").write_text("".join(f"FEDERALIST No.{text}" for text in texts), encoding="ascii")
    unpack.papers(tmp_path / "18.txt", tmp_path / "federalist")
    assert sorted((tmp_path / "federalist").rglob("*.txt")) == [
        tmp_path / path.relative_to(data) for path in paths
    ]
    for path in paths:
        assert (tmp_path / path.relative_to(data)).read_text("utf-8") == path.read_text("utf-8")


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
        (TS.replace("4,5,6", "4,5"), "line 6: the channels have"),
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
    "pattern", [r for r in vars(texts).values() if isinstance(r, re.Pattern)], ids=lambda r: r.pattern[:20]
)
@pytest.mark.parametrize(
    "filling",
    ["\n", " ", "\n ", "A", "MADISON ", "MADISON\n", "To the People of the State of New York ", "1"],
)
def test_patterns_over_texts_take_time_in_proportion(pattern, filling):
    """Ten times the text, at most some thirty times the time (a quadratic pattern takes a hundred times)."""

    def seconds(n):
        text = filling * (n // len(filling))
        start = time.thread_time()  # other processes take none of it
        pattern.sub("", text)
        return time.thread_time() - start

    # Both times of a pair are measured under the same load, and a quadratic pattern fails for every pair.
    assert any(seconds(200_000) < 30 * max(seconds(20_000), 1e-3) for _ in range(10))


def test_federalist_head_of_a_text_of_digits_has_no_number():
    """Python refuses to make an int from thousands of digits."""
    assert datasets.federalist_head("1" * 5000) == (None, ())


UNIVARIATE = """@relation r
% a comment
@attribute t0 numeric
@attribute t1 numeric
@attribute t2 numeric
@attribute target {yes,no}

@data
1,2,3,yes
4,?,6,no
7,?,?,'yes'
"""
RELATIONAL = """@relation Vowels
@attribute relationalAtt relational
  @attribute att0 numeric
  @attribute att1 numeric
  @attribute att2 numeric
@end relationalAtt
@attribute class {1,2}
@data
'1,2,3\\n4,5,6',1
'7,8,?\\n9,10,?',2
"""


def test_arff_of_one_channel_leaves_padding_out(tmp_path):
    path = tmp_path / "a.arff"
    path.write_text(UNIVARIATE)
    X, y = datasets.read_arff(path)
    assert [x.shape for x in X] == [(3, 1), (3, 1), (1, 1)]
    assert y.tolist() == ["yes", "no", "yes"]
    assert np.isnan(X[1][1, 0])
    assert X[0].dtype == np.float32


def test_arff_of_several_channels_has_them_as_columns(tmp_path):
    path = tmp_path / "a.arff"
    path.write_text(RELATIONAL)
    X, y = datasets.read_arff(path, dtype="float64")
    np.testing.assert_array_equal(X[0], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(X[1], [[7, 9], [8, 10]])
    assert y.tolist() == ["1", "2"]


def test_arff_with_a_number_as_target(tmp_path):
    path = tmp_path / "a.arff"
    path.write_text("@relation r\n@attribute t0 numeric\n@attribute y real\n@data\n1,2.5\n3,4\n")
    np.testing.assert_array_equal(datasets.read_arff(path)[1], [2.5, 4])


def test_arff_is_what_scipy_reads(tmp_path):
    from scipy.io.arff import loadarff

    path = tmp_path / "a.arff"
    path.write_text(UNIVARIATE.replace("?", "0").replace("'", ""))
    records, _ = loadarff(path)
    X, y = datasets.read_arff(path)
    np.testing.assert_array_equal(np.stack(X)[:, :, 0], np.array([list(r)[:3] for r in records.tolist()]))
    assert [r[3].decode() for r in records] == y.tolist()


def test_ts_of_a_regression_has_numbers(tmp_path):
    path = tmp_path / "a.ts"
    path.write_text(
        "# a comment\n@problemName r\n@timeStamps false\n@targetLabel true\n@data\n1,2:3,?:1.5\n4:5:-2\n"
    )
    X, y = datasets.read_ts(path)
    assert [x.shape for x in X] == [(2, 2), (1, 2)]
    assert np.isnan(X[0][1, 1])
    np.testing.assert_array_equal(y, [1.5, -2])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.ts", "1,2:3\n", "has no @data line"),
        ("a.ts", "@timestamps true\n@classlabel true 1\n@data\n", "time stamps"),
        ("a.ts", "@classlabel false\n@data\n1:2\n", "no class labels and no targets"),
        ("a.ts", "@targetlabel true\n@data\n1,2:3\n1:many\n", "line 4: the target 'many' is no number"),
        ("a.ts", "@classlabel true a\n@data\n1,2:3:a\n", r"line 3: the channels have \[2, 1\] steps"),
        ("a.ts", "@classlabel true a\n@data\n1,x:a\n", "line 3: could not convert"),
        ("a.ts", "@classlabel true a\n@data\na\n", "line 3: a case has channels and a label"),
        ("a.arff", "@relation r\n", "has no @data line"),
        ("a.arff", "@relation r\n@attribute y real\n@data\n", "has 1 attributes"),
        ("a.arff", UNIVARIATE.replace("1,2,3,yes", "1,2,yes"), "line 9: 3 values for 4 attributes"),
        ("a.arff", RELATIONAL.replace("4,5,6", "4,5"), r"line 9: the channels have \[3, 2\] steps"),
    ],
)
def test_readers_name_what_is_wrong_and_where(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        getattr(datasets, f"read_{path.suffix[1:]}")(path)


@pytest.mark.parametrize("reader", [datasets.read_ts, datasets.read_arff, datasets.read_long])
def test_readers_say_that_a_file_is_not_there(reader, tmp_path):
    if reader is datasets.read_long:
        pytest.importorskip("polars", reason="the extra 'frames' is not installed")
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*nowhere.csv'"):
        reader(tmp_path / "nowhere.csv")


LONG = {"unique_id": ["b", "a", "b", "a", "a"], "ds": [2, 3, 1, 1, 2], "load": [20.0, 3, 10, 1, None]}


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_long_tables_become_sequences_in_the_order_of_time(tmp_path, ending):
    pl = pytest.importorskip("polars", reason="the extra 'frames' is not installed")
    frame = pl.DataFrame({**LONG, "warm": [1, 0, 1, 0, 0], "kind": ["x", "y", "x", "y", "y"]})
    path = tmp_path / f"long{ending}"
    if ending == ".parquet":
        frame.write_parquet(path)
    else:
        text = frame.write_csv().encode()
        path.write_bytes(gzip.compress(text) if ending == ".csv.gz" else text)
    table = datasets.read_long(path, target_col="kind")
    np.testing.assert_array_equal(table.X[0], [[1, 0], [np.nan, 0], [3, 0]])
    np.testing.assert_array_equal(table.X[1], [[10, 1], [20, 1]])
    assert (table.y.tolist(), table.names.tolist(), table.columns) == (
        ["y", "x"],
        ["a", "b"],
        ("load", "warm"),
    )
    assert datasets.read_long(path, columns=["warm"]).y is None


def test_long_tables_name_the_column_that_is_wrong(tmp_path):
    pl = pytest.importorskip("polars", reason="the extra 'frames' is not installed")

    def write(**columns):
        path = tmp_path / "long.csv"
        pl.DataFrame({**LONG, **columns}).write_csv(path)
        return path

    for kwargs, columns, message in (
        ({"id_col": "series"}, {}, r"no column 'series'; its columns are \['unique_id', 'ds', 'load'\]"),
        ({"columns": ["price"]}, {}, "no column 'price'"),
        ({}, {"kind": list("xyxyy")}, "long.csv: column 'kind' holds String.* no numbers"),
        ({}, {"ds": [2, 1, 1, 1, 2]}, "'a' has more than one row of ds = 1"),
        ({"target_col": "kind"}, {"kind": list("xyzyy")}, "sequence 'b' .* several values of 'kind'"),
    ):
        with pytest.raises(ValueError, match=message):
            datasets.read_long(write(**columns), **kwargs)
    with pytest.raises(ValueError, match="ends in neither"):
        datasets.read_long(write().rename(tmp_path / "long.txt"))
