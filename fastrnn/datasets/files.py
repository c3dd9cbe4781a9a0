"""Where the files of data sets are: in a folder, in the user's cache folder, or at their public homes."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fastrnn.datasets import unpack
from fastrnn.extras import extra

__all__ = ["DataNotFoundError", "data_folder", "fetched", "find", "read_columns"]


class Home(NamedTuple):
    """Where a data set is published, and how it is brought here."""

    text: str
    """The address, and what the package reads from there."""
    fetched_by: str
    """The function that downloads it."""


HOMES = {
    "imdb.jsonl.gz": Home(
        "Large Movie Review Dataset, https://ai.stanford.edu/~amaas/data/sentiment/ ; one gzipped JSON object a "
        'line: {"split": "train" or "test", "label": 0 or 1, "text": ...}',
        "fetch_imdb",
    ),
    "federalist": Home(
        "the Federalist papers, public domain (https://www.gutenberg.org/ebooks/18); one text file a paper in the "
        "folders hamilton, madison and unknown",
        "fetch_federalist",
    ),
    "SMSSpamCollection": Home(
        "SMS Spam Collection, https://archive.ics.uci.edu/dataset/228/sms+spam+collection ; that file, or sms_spam.csv, "
        "latin-1 with the columns v1 (ham or spam) and v2 (text)",
        "fetch_sms_spam",
    ),
    "japanese_vowels": Home(
        "https://www.timeseriesclassification.com/description.php?Dataset=JapaneseVowels ; the files "
        "JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts",
        "fetch_japanese_vowels",
    ),
    "series/ETTh1.csv": Home(
        "https://github.com/zhouhaoyi/ETDataset, ETT-small/ETTh1.csv",
        "fetch_etth1",
    ),
    "series/vic_elec.csv": Home(
        "the R package tsibbledata, https://tsibbledata.tidyverts.org (vic_elec), as CSV with the columns "
        "Time, Demand, Temperature, Date, Holiday",
        "fetch_vic_elec",
    ),
}


class Download(NamedTuple):
    """A published file."""

    url: str
    """Address, with the release or the commit where there is one."""
    sha256: str
    """Hexadecimal digest of the file at that address."""
    unpack: Callable[[Path, Path], None] | None = None
    """``unpack(downloaded, target)`` writes what the package reads; None if it reads the file as it is published."""


_GITHUB = "https://raw.githubusercontent.com"
_SKTIME = f"{_GITHUB}/sktime/sktime/v1.0.1/sktime/datasets/data/JapaneseVowels"
DOWNLOADS = {
    "imdb.jsonl.gz": Download(
        "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
        "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
        unpack.reviews,
    ),
    "federalist": Download(
        f"{_GITHUB}/GITenberg/The-Federalist-Papers_18/fc8172eca561443699d3b0fd6c0387e89f0d9f00/18.txt",
        "ee0484c2e0f03f1b64743db6eb16f66588262d902c119145033e1bc4d24c9ce5",
        unpack.papers,
    ),
    "SMSSpamCollection": Download(
        "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
        "1587ea43e58e82b14ff1f5425c88e17f8496bfcdb67a583dbff9eefaf9963ce3",
        unpack.messages,
    ),
    "japanese_vowels/JapaneseVowels_TRAIN.ts": Download(
        f"{_SKTIME}/JapaneseVowels_TRAIN.ts",
        "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    ),
    "japanese_vowels/JapaneseVowels_TEST.ts": Download(
        f"{_SKTIME}/JapaneseVowels_TEST.ts",
        "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
    ),
    "series/ETTh1.csv": Download(
        f"{_GITHUB}/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/ETTh1.csv",
        "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    ),
    "series/vic_elec.csv": Download(
        f"{_GITHUB}/skforecast/skforecast-datasets/f8c3d7fe5ec41ef86f93e969c31ec4b469b7c949/data/vic_electricity.csv",
        "6fa81bc3552f8822e984900f727584b82b3f10f41d78a1a0cdda2879a29a122e",
    ),
}


class DataNotFoundError(FileNotFoundError):
    """A data set is not in the folder, or could not be downloaded.

    Examples
    --------
    >>> from fastrnn.datasets import DataNotFoundError, load_imdb
    >>> try:
    ...     load_imdb(folder="/no/such/folder")
    ... except DataNotFoundError as error:
    ...     print("IMDB is not here")
    IMDB is not here
    """


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder with the data: `folder`, or the folder that ``FASTRNN_DATA`` names.

    Raises
    ------
    DataNotFoundError
        If neither names an existing folder.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.datasets import data_folder
    >>> data_folder(tempfile.gettempdir()).is_dir()
    True
    """
    chosen = folder if folder is not None else os.environ.get("FASTRNN_DATA")
    if not chosen:
        raise DataNotFoundError(
            "no data folder: set the environment variable FASTRNN_DATA to it, or pass folder=. "
            f"It holds any of {', '.join(HOMES)}"
        )
    path = Path(chosen).expanduser()
    if not path.is_dir():
        named = "folder" if folder is not None else "FASTRNN_DATA"
        raise DataNotFoundError(f"{named}={str(chosen)!r} is no folder")
    return path


def find(folder: str | os.PathLike[str] | None, name: str, *others: str) -> Path:
    """The path of a file or folder of a data set; of several forms of it, the first that is there."""
    home = _home(folder, (name, *others))
    for form in (name, *others):
        if (home / form).exists():
            return home / form
    published = _published(name)
    raise DataNotFoundError(
        f"{home / name} is missing; it comes from {published.text}; {published.fetched_by}() downloads it"
    )


def _published(name: str) -> Home:
    """Where the data set of a file is published."""
    return next(home for key, home in HOMES.items() if name.startswith(key))


def _home(folder: str | os.PathLike[str] | None, forms: tuple[str, ...]) -> Path:
    """The data folder, or the user's cache folder if none is named and one of these forms was downloaded to there."""
    if folder is None and not os.environ.get("FASTRNN_DATA") and any(map(_cached, forms)):
        return _cache_folder()
    return data_folder(folder)


def fetched(folder: str | os.PathLike[str] | None, *names: str, instead: str | None = None) -> Path:
    """The folder with these files, after those that were missing have been downloaded.

    The folder is `folder`, the one that ``FASTRNN_DATA`` names, or the user's cache folder. If it holds the file `instead`,
    another form of the same data, nothing is downloaded.
    """
    named = folder is not None or os.environ.get("FASTRNN_DATA")
    home = data_folder(folder) if named else _cache_folder()
    if instead is None or not (home / instead).exists():
        for name in names:
            if not (home / name).exists():
                _download(home, name)
    return home


def _cache_folder() -> Path:
    return Path(extra("pooch", "data").os_cache("fastrnn"))


def _cached(name: str) -> bool:
    """Whether a file was downloaded before."""
    try:
        return (_cache_folder() / name).exists()
    except ImportError:
        return False


def _download(home: Path, name: str) -> None:
    """Download a file with a progress bar, check its SHA-256, and put what is read from it at its place.

    All work is done in a temporary folder beside that place: after a failure nothing is left.
    """
    pooch = extra("pooch", "data")
    url, sha256, convert = DOWNLOADS[name]
    target = home / name
    get = "get the file on another machine, put it"
    if convert is not None:
        get = f"call {_published(name).fetched_by}() on another machine, copy {name} from its cache folder, put it"
    remedy = f"{get} at {target}, and call again; or set FASTRNN_DATA to a folder that holds it"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="download-") as work:
            path = Path(work) / url.rpartition("/")[2]
            pooch.HTTPDownloader(progressbar=True)(url, str(path), None)
            found = pooch.file_hash(path)
            if found != sha256:
                raise DataNotFoundError(
                    f"{path.name}, downloaded from {url} for {name}, is damaged or was replaced: its SHA-256 is {found}, "
                    f"expected is {sha256}. Nothing was kept. Call again; if it fails again, {remedy}"
                )
            if convert is not None:
                convert(path, Path(work) / "unpacked")
                path = Path(work) / "unpacked"
            os.replace(path, target)
    except DataNotFoundError:
        raise
    except OSError as error:  # no connection, no such page, or a folder that can't be written
        raise DataNotFoundError(
            f"{name} could not be downloaded from {url}: {error}. Without a connection: {remedy}"
        ) from error


def read_columns(path: Path, encoding: str = "utf-8") -> dict[str, list[str]]:
    """The columns of a CSV file that have a name."""
    with open(path, encoding=encoding, newline="") as file:
        rows = csv.reader(file)
        names = next(rows)
        columns = list(zip(*rows, strict=True))
    return {name: list(column) for name, column in zip(names, columns, strict=True) if name}
