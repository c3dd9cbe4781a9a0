"""Data sets for tests, examples and benchmarks.

The airline series is part of the package. The other sets are files in a folder: the argument `folder`, or else the folder
that the environment variable ``FASTRNN_DATA`` names. Three sets can be downloaded with ``download=True`` (extra ``data``):
they are stored in that folder, or in the user's cache folder if no folder is named. If a file is missing, the error gives
its name and where it is published.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.checks import flag
from fastrnn.extras import extra

__all__ = [
    "DataNotFoundError",
    "Federalist",
    "Series",
    "Vowels",
    "data_folder",
    "federalist_head",
    "load_airline",
    "load_etth1",
    "load_federalist",
    "load_imdb",
    "load_japanese_vowels",
    "load_sms_spam",
    "load_vic_elec",
    "read_ts",
]

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


class DataNotFoundError(FileNotFoundError):
    """A data set is not in the folder, or could not be downloaded."""


class Series(NamedTuple):
    """A series with equally spaced steps."""

    time: NDArray[Any]
    """(n_steps,) datetime64."""
    values: NDArray[Any]
    """(n_steps,) or (n_steps, n_features) float64."""
    names: tuple[str, ...]
    """Names of the features."""


class Vowels(NamedTuple):
    """Ragged sequences, split as published."""

    X_train: list[NDArray[Any]]
    """270 arrays of shape (n_timesteps_i, 12), float32."""
    y_train: NDArray[Any]
    """(270,) labels '1' to '9', the speakers."""
    X_test: list[NDArray[Any]]
    y_test: NDArray[Any]


class Federalist(NamedTuple):
    """Texts of the papers, by the folder that they are in."""

    hamilton: list[str]
    madison: list[str]
    unknown: list[str]
    """Papers whose author a model has to find. Their heads name the author."""


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder with the data: `folder`, or the folder that ``FASTRNN_DATA`` names.

    Raises
    ------
    DataNotFoundError
        If neither names an existing folder.
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


def _find(folder: str | os.PathLike[str] | None, name: str, download: bool = False) -> Path:
    """The path of a file or folder of a data set. A missing file is downloaded if `download` is True."""
    flag(download, "download")
    if folder is None and not os.environ.get("FASTRNN_DATA") and (download or _cached(name)):
        home = _cache_folder()
    else:
        home = data_folder(folder)
    path = home / name
    if not path.exists():
        if not download:
            home_page = next(text for key, text in HOMES.items() if name.startswith(key))
            hint = "; download=True downloads it" if name in DOWNLOADS else ""
            raise DataNotFoundError(f"{path} is missing; it comes from {home_page}{hint}")
        _download(home, name)
    return path


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
        raise DataNotFoundError(f"{name} could not be downloaded from {url}: {error}") from error


def _read_columns(path: Path, encoding: str = "utf-8") -> dict[str, list[str]]:
    with open(path, encoding=encoding, newline="") as file:
        rows = csv.reader(file)
        names = next(rows)
        columns = list(zip(*rows, strict=True))
    return {name: list(column) for name, column in zip(names, columns, strict=True) if name}


def load_airline() -> Series:
    """Monthly airline passengers, 1949 to 1960, in thousands; shipped with the package.

    Returns
    -------
    Series
        144 steps, one variable of shape (144,).

    References
    ----------
    Box, G. E. P. and Jenkins, G. M. (1976). Time Series Analysis: Forecasting and Control, series G.
    """
    columns = _read_columns(Path(__file__).parents[1] / "data" / "airline.csv")
    time = np.array(columns["month"], dtype="datetime64[M]")
    return Series(time, np.array(columns["passengers"], dtype=float), ("passengers",))


def load_etth1(folder: str | os.PathLike[str] | None = None, *, download: bool = False) -> Series:
    """Hourly data of an electricity transformer over two years: six loads and the oil temperature ``OT``, the target.

    Parameters
    ----------
    folder : path or None
        Where the file ``series/ETTh1.csv`` is; None means what ``FASTRNN_DATA`` says.
    download : bool
        Whether to download the file if it is missing.

    Returns
    -------
    Series
        17,420 steps, 7 variables.

    References
    ----------
    Zhou, H. et al. (2021). Informer: beyond efficient transformer for long sequence time-series forecasting. AAAI.
    """
    columns = _read_columns(_find(folder, "series/ETTh1.csv", download))
    time = np.array(columns.pop("date"), dtype="datetime64[h]")
    return Series(time, np.array(list(columns.values()), dtype=float).T.copy(), tuple(columns))


def load_vic_elec(folder: str | os.PathLike[str] | None = None, *, download: bool = False) -> Series:
    """Victoria's electricity demand (MW), temperature (Celsius) and holidays (0 or 1), by half-hours, 2012 to 2014.

    Parameters
    ----------
    folder : path or None
        Where the file ``series/vic_elec.csv`` is; None means what ``FASTRNN_DATA`` says.
    download : bool
        Whether to download the file if it is missing.

    Returns
    -------
    Series
        52,608 steps, 3 variables; time is in UTC.
    """
    columns = _read_columns(_find(folder, "series/vic_elec.csv", download))
    time = np.array([stamp.rstrip("Z") for stamp in columns["Time"]], dtype="datetime64[m]")
    holiday = np.array(columns["Holiday"]) == "TRUE"
    values = [
        np.array(columns["Demand"], float),
        np.array(columns["Temperature"], float),
        holiday.astype(float),
    ]
    return Series(time, np.stack(values, axis=1), ("demand", "temperature", "holiday"))


def read_ts(
    path: str | os.PathLike[str], dtype: str | type = np.float32
) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """Read a ``.ts`` file of the UCR/UEA archive with class labels; the sequences may be of any lengths.

    Parameters
    ----------
    path : path
        The file. After a head of lines that start with ``#`` or ``@`` each line is one case: its channels, separated
        by ``:``, and its label.
    dtype : dtype
        Type of the values.

    Returns
    -------
    X : list of ndarray of shape (n_timesteps_i, n_channels)
    y : ndarray of str
    """
    X, y = [], []
    with open(path, encoding="utf-8") as file:
        head: dict[str, str] = {}
        for line in file:
            word, _, rest = line.strip().partition(" ")
            if word.lower() == "@data":
                break
            head[word.lower()] = rest.lower()
        else:
            raise ValueError(f"{path} has no @data line; is it a .ts file?")
        if head.get("@timestamps") == "true" or not head.get("@classlabel", "").startswith("true"):
            raise ValueError(f"{path} has time stamps or no class labels, which read_ts cannot read")
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            *channels, label = line.strip().split(":")
            steps = [np.array(c.replace("?", "nan").split(","), dtype=dtype) for c in channels]
            if len({len(s) for s in steps}) != 1:
                raise ValueError(f"{path}: the channels of case {number} differ in length")
            X.append(np.stack(steps, axis=1))
            y.append(label)
    return X, np.array(y)


def load_japanese_vowels(folder: str | os.PathLike[str] | None = None, *, download: bool = False) -> Vowels:
    """Two vowels spoken by nine speakers, as 12 cepstrum coefficients over 7 to 29 steps. The class is the speaker.

    Parameters
    ----------
    folder : path or None
        Where the folder ``japanese_vowels`` is; None means what ``FASTRNN_DATA`` says.
    download : bool
        Whether to download the files if they are missing.

    Returns
    -------
    Vowels
        270 sequences for training and 370 for tests.

    References
    ----------
    Kudo, M., Toyama, J. and Shimbo, M. (1999). Multidimensional curve classification using passing-through regions.
    Pattern Recognition Letters 20, 1103-1111.
    """
    names = [f"japanese_vowels/JapaneseVowels_{part}.ts" for part in ("TRAIN", "TEST")]
    train, test = [read_ts(path) for path in [_find(folder, name, download) for name in names]]
    return Vowels(*train, *test)


def load_sms_spam(folder: str | os.PathLike[str] | None = None) -> tuple[list[str], NDArray[Any]]:
    """SMS messages and whether they are spam, in the order of the file.

    Parameters
    ----------
    folder : path or None
        Where ``sms_spam.csv`` is; None means what ``FASTRNN_DATA`` says.

    Returns
    -------
    texts : list of str
        5,572 messages.
    y : ndarray of shape (5572,), int64
        1 is spam.

    References
    ----------
    Almeida, T. A., Hidalgo, J. M. G. and Yamakami, A. (2011). Contributions to the study of SMS spam filtering. DocEng.
    """
    columns = _read_columns(_find(folder, "sms_spam.csv"), encoding="latin-1")
    return columns["v2"], (np.array(columns["v1"]) == "spam").astype(np.int64)


def load_imdb(
    split: str = "train", folder: str | os.PathLike[str] | None = None
) -> tuple[list[str], NDArray[Any]]:
    """Movie reviews and whether they are positive. The file is sorted by class: shuffle before you split it.

    Parameters
    ----------
    split : {"train", "test"}
        Half of the reviews to load.
    folder : path or None
        Where ``imdb.jsonl.gz`` is; None means what ``FASTRNN_DATA`` says.

    Returns
    -------
    texts : list of str
        25,000 reviews.
    y : ndarray of shape (25000,), int64
        1 is positive.

    References
    ----------
    Maas, A. L. et al. (2011). Learning word vectors for sentiment analysis. ACL.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r} is unknown; pass 'train' or 'test'")
    with gzip.open(_find(folder, "imdb.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["split"] == split]
    return [row["text"] for row in rows], np.array([row["label"] for row in rows], dtype=np.int64)


# A line of the head names the author. The white space around the names excludes newlines; otherwise the search would take
# quadratic time on many empty lines.
_AUTHOR_LINE = re.compile(
    r"^[^\S\n]*(HAMILTON|MADISON|JAY)(\s+(AND|OR|WITH)\s+(HAMILTON|MADISON|JAY))*[^\S\n]*$", re.M
)
_SALUTATION = re.compile(r"To the People of the State of New York\s*[:.]")
_SIGNATURE = re.compile(r"\bPUBLIUS\b")


def load_federalist(
    folder: str | os.PathLike[str] | None = None, *, drop_author_line: bool = True, body_only: bool = False
) -> Federalist:
    """Federalist papers by Hamilton, papers by Madison, and papers whose author is to be found.

    Parameters
    ----------
    folder : path or None
        Where the folder ``federalist`` is; None means what ``FASTRNN_DATA`` says.
    drop_author_line : bool
        Whether to leave out the line that names the author, from which a model could read the answer.
    body_only : bool
        Whether to keep only what the author wrote: from the salutation to the signature, without the head (number,
        title, newspaper and date), with all white space as single spaces. Line widths and blank lines differ between
        papers, but they come from the typist and not from the author.

    Returns
    -------
    Federalist
        Lists of texts, in the order of the files' numbers.

    See Also
    --------
    federalist_head : number and author that a paper's head names.
    """
    home = _find(folder, "federalist")

    def paper_number(path: Path) -> tuple[int, str]:
        digits = re.search(r"\d+", path.stem)
        return (int(digits.group()) if digits else 0, path.stem)

    groups = []
    for author in Federalist._fields:
        texts = [p.read_text("utf-8") for p in sorted((home / author).glob("*.txt"), key=paper_number)]
        if drop_author_line:
            texts = [_AUTHOR_LINE.sub("", text) for text in texts]
        groups.append([_body(text) for text in texts] if body_only else texts)
    return Federalist(*groups)


def _body(text: str) -> str:
    start = _SALUTATION.search(text)
    text = text[start.end() :] if start else text
    end = _SIGNATURE.search(text)
    return " ".join((text[: end.start()] if end else text).split())


def federalist_head(text: str) -> tuple[int | None, tuple[str, ...]]:
    """Read a paper's number and its author from its head.

    Parameters
    ----------
    text : str
        A paper as ``load_federalist(drop_author_line=False)`` gives it.

    Returns
    -------
    number : int or None
        The paper's number among the 85; None if the text doesn't start with one.
    authors : tuple of str
        Lower-case names; two if the authors wrote the paper together, none if the line is missing.
    """
    number = re.match(r"\s*(\d+)\b", text)
    line = _AUTHOR_LINE.search(text)
    names = re.findall("HAMILTON|MADISON|JAY", line.group()) if line else []
    return (int(number.group(1)) if number else None), tuple(name.lower() for name in names)
