"""Where the files of data sets are: in a folder, in the user's cache folder, or at their public homes."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import NamedTuple

from fastrnn.extras import extra

__all__ = ["DataNotFoundError", "data_folder", "fetched", "find", "read_columns"]

HOMES = {
    "imdb.jsonl.gz": (
        "Large Movie Review Dataset, https://ai.stanford.edu/~amaas/data/sentiment/ ; one gzipped JSON object a "
        'line: {"split": "train" or "test", "label": 0 or 1, "text": ...}'
    ),
    "federalist": (
        "the Federalist papers, public domain (https://www.gutenberg.org/ebooks/18); one text file a paper in the "
        "folders hamilton, madison and unknown"
    ),
    "sms_spam.csv": (
        "SMS Spam Collection, https://archive.ics.uci.edu/dataset/228/sms+spam+collection ; latin-1 CSV with the "
        "columns v1 (ham or spam) and v2 (text)"
    ),
    "japanese_vowels": (
        "https://www.timeseriesclassification.com/description.php?Dataset=JapaneseVowels ; the files "
        "JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts"
    ),
    "series/ETTh1.csv": "https://github.com/zhouhaoyi/ETDataset, ETT-small/ETTh1.csv",
    "series/vic_elec.csv": (
        "the R package tsibbledata, https://tsibbledata.tidyverts.org (vic_elec), as CSV with the columns "
        "Time, Demand, Temperature, Date, Holiday"
    ),
}


class Download(NamedTuple):
    """A published file."""

    url: str
    """Address, with the release or the commit."""
    sha256: str
    """Hexadecimal digest of the contents."""


_GITHUB = "https://raw.githubusercontent.com"
_SKTIME = f"{_GITHUB}/sktime/sktime/v1.0.1/sktime/datasets/data/JapaneseVowels"
# Only files that can be read as they are published. The others are archives or web pages that have to be converted, which
# pooch does not do.
DOWNLOADS = {
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


#: The function that downloads each.
FETCHED_BY = {
    "japanese_vowels": "fetch_japanese_vowels",
    "series/ETTh1.csv": "fetch_etth1",
    "series/vic_elec.csv": "fetch_vic_elec",
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


def _home(folder: str | os.PathLike[str] | None, names: tuple[str, ...], download: bool) -> Path:
    """The data folder, or the user's cache folder if none is named and the files are there or will be."""
    if folder is None and not os.environ.get("FASTRNN_DATA") and (download or all(map(_cached, names))):
        return _cache_folder()
    return data_folder(folder)


def find(folder: str | os.PathLike[str] | None, name: str) -> Path:
    """The path of a file or folder of a data set."""
    path = _home(folder, (name,), download=False) / name
    if not path.exists():
        key = next(key for key in HOMES if name.startswith(key))
        hint = f"; {FETCHED_BY[key]}() downloads it" if name in DOWNLOADS else ""
        raise DataNotFoundError(f"{path} is missing; it comes from {HOMES[key]}{hint}")
    return path


def fetched(folder: str | os.PathLike[str] | None, *names: str) -> Path:
    """The folder with these files, after those that were missing have been downloaded."""
    home = _home(folder, names, download=True)
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
    """Download a file with a progress bar, and check its SHA-256."""
    pooch = extra("pooch", "data")
    url, sha256 = DOWNLOADS[name]
    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}",
            path=home / Path(name).parent,
            fname=Path(name).name,
            downloader=pooch.HTTPDownloader(progressbar=True),
        )
    except (OSError, ValueError) as error:  # no connection, no such page, or a wrong hash
        raise DataNotFoundError(
            f"{name} could not be downloaded from {url}: {error}. Without a connection: get the file on another machine, "
            f"put it at {home / name}, and call again; or set FASTRNN_DATA to a folder that holds it"
        ) from error


def read_columns(path: Path, encoding: str = "utf-8") -> dict[str, list[str]]:
    """The columns of a CSV file that have a name."""
    with open(path, encoding=encoding, newline="") as file:
        rows = csv.reader(file)
        names = next(rows)
        columns = list(zip(*rows, strict=True))
    return {name: list(column) for name, column in zip(names, columns, strict=True) if name}
