"""Data sets for tests, examples and benchmarks.

The airline series is part of the package. The other sets are files in a folder: the argument `folder`, or else the
folder that the environment variable ``FASTRNN_DATA`` names. Three sets can be downloaded with ``download=True``
(extra ``data``): they are stored in that folder, or in the user's cache folder if no folder is named. If a file is
missing, the error gives its name and where it is published.
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

from fastrnn.datasets.files import DataNotFoundError, data_folder, fetched, find
from fastrnn.datasets.readers import LongTable, read_arff, read_long, read_ts

__all__ = [
    "DataNotFoundError",
    "Federalist",
    "LongTable",
    "Series",
    "Vowels",
    "data_folder",
    "federalist_head",
    "fetch_etth1",
    "fetch_japanese_vowels",
    "fetch_vic_elec",
    "load_airline",
    "load_etth1",
    "load_federalist",
    "load_imdb",
    "load_japanese_vowels",
    "load_sms_spam",
    "load_vic_elec",
    "read_arff",
    "read_long",
    "read_ts",
]


class Series(NamedTuple):
    """A series with equally spaced steps.

    Examples
    --------
    >>> from fastrnn.datasets import load_airline
    >>> series = load_airline()
    >>> series.values.shape, series.names
    ((144,), ('passengers',))
    """

    time: NDArray[Any]
    """(n_steps,) datetime64."""
    values: NDArray[Any]
    """(n_steps,) or (n_steps, n_features) float64."""
    names: tuple[str, ...]
    """Names of the features."""


class Vowels(NamedTuple):
    """Ragged sequences, split as published.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrnn.datasets import Vowels
    >>> data = Vowels([np.zeros((20, 12))], np.array(["1"]), [np.zeros((15, 12))], np.array(["2"]))
    >>> data.X_test[0].shape
    (15, 12)
    """

    X_train: list[NDArray[Any]]
    """270 arrays of shape (n_timesteps_i, 12), float32."""
    y_train: NDArray[Any]
    """(270,) labels '1' to '9', the speakers."""
    X_test: list[NDArray[Any]]
    y_test: NDArray[Any]


class Federalist(NamedTuple):
    """Texts of the papers, by the folder that they are in.

    Examples
    --------
    >>> from fastrnn.datasets import Federalist
    >>> Federalist(["by Hamilton"], ["by Madison"], ["by whom?"]).unknown
    ['by whom?']
    """

    hamilton: list[str]
    madison: list[str]
    unknown: list[str]
    """Papers whose author a model has to find. Their heads name the author."""


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

    Examples
    --------
    >>> from fastrnn.datasets import load_airline
    >>> series = load_airline()
    >>> series.values.shape, series.time[0].item().year
    ((144,), 1949)
    """
    columns = _read_columns(Path(__file__).parents[1] / "data" / "airline.csv")
    time = np.array(columns["month"], dtype="datetime64[M]")
    return Series(time, np.array(columns["passengers"], dtype=float), ("passengers",))


def load_etth1(folder: str | os.PathLike[str] | None = None) -> Series:
    """Hourly data of an electricity transformer over two years: six loads and the oil temperature ``OT``, the target.

    Parameters
    ----------
    folder : path or None
        Where the file ``series/ETTh1.csv`` is; None means what ``FASTRNN_DATA`` says.

    Returns
    -------
    Series
        17,420 steps, 7 variables.

    References
    ----------
    Zhou, H. et al. (2021). Informer: beyond efficient transformer for long sequence time-series forecasting. AAAI.

    Examples
    --------
    >>> from fastrnn.datasets import load_etth1
    >>> data = load_etth1()  # doctest: +SKIP
    """
    columns = _read_columns(find(folder, "series/ETTh1.csv"))
    time = np.array(columns.pop("date"), dtype="datetime64[h]")
    return Series(time, np.array(list(columns.values()), dtype=float).T.copy(), tuple(columns))


def fetch_etth1(folder: str | os.PathLike[str] | None = None) -> Series:
    """Return what :func:`load_etth1` returns, after a missing file has been downloaded.

    The file is looked for in `folder`, in the folder that ``FASTRNN_DATA`` names, or in the user's cache folder;
    it is downloaded to there (extra ``data``), and its SHA-256 is checked.

    Parameters
    ----------
    folder : path or None

    Returns
    -------
    Series

    Raises
    ------
    DataNotFoundError
        If the file can't be downloaded, or is not the one that was published.

    Examples
    --------
    >>> from fastrnn.datasets import fetch_etth1
    >>> data = fetch_etth1()  # doctest: +SKIP
    """
    return load_etth1(fetched(folder, "series/ETTh1.csv"))


def load_vic_elec(folder: str | os.PathLike[str] | None = None) -> Series:
    """Victoria's electricity demand (MW), temperature (Celsius) and holidays (0 or 1), by half-hours, 2012 to 2014.

    Parameters
    ----------
    folder : path or None
        Where the file ``series/vic_elec.csv`` is; None means what ``FASTRNN_DATA`` says.

    Returns
    -------
    Series
        52,608 steps, 3 variables; time is in UTC.

    Examples
    --------
    >>> from fastrnn.datasets import load_vic_elec
    >>> data = load_vic_elec()  # doctest: +SKIP
    """
    columns = _read_columns(find(folder, "series/vic_elec.csv"))
    time = np.array([stamp.rstrip("Z") for stamp in columns["Time"]], dtype="datetime64[m]")
    holiday = np.array(columns["Holiday"]) == "TRUE"
    values = [
        np.array(columns["Demand"], float),
        np.array(columns["Temperature"], float),
        holiday.astype(float),
    ]
    return Series(time, np.stack(values, axis=1), ("demand", "temperature", "holiday"))


def fetch_vic_elec(folder: str | os.PathLike[str] | None = None) -> Series:
    """Return what :func:`load_vic_elec` returns, after a missing file has been downloaded.

    The file is looked for in `folder`, in the folder that ``FASTRNN_DATA`` names, or in the user's cache folder;
    it is downloaded to there (extra ``data``), and its SHA-256 is checked.

    Parameters
    ----------
    folder : path or None

    Returns
    -------
    Series

    Raises
    ------
    DataNotFoundError
        If the file can't be downloaded, or is not the one that was published.

    Examples
    --------
    >>> from fastrnn.datasets import fetch_vic_elec
    >>> data = fetch_vic_elec()  # doctest: +SKIP
    """
    return load_vic_elec(fetched(folder, "series/vic_elec.csv"))


def load_japanese_vowels(folder: str | os.PathLike[str] | None = None) -> Vowels:
    """Two vowels spoken by nine speakers, as 12 cepstrum coefficients over 7 to 29 steps. The class is the speaker.

    Parameters
    ----------
    folder : path or None
        Where the folder ``japanese_vowels`` is; None means what ``FASTRNN_DATA`` says.

    Returns
    -------
    Vowels
        270 sequences for training and 370 for tests.

    References
    ----------
    Kudo, M., Toyama, J. and Shimbo, M. (1999). Multidimensional curve classification using passing-through regions.
    Pattern Recognition Letters 20, 1103-1111.

    Examples
    --------
    >>> from fastrnn.datasets import load_japanese_vowels
    >>> data = load_japanese_vowels()  # doctest: +SKIP
    """
    names = [f"japanese_vowels/JapaneseVowels_{part}.ts" for part in ("TRAIN", "TEST")]
    train, test = [read_ts(path) for path in [find(folder, name) for name in names]]
    return Vowels(*train, *test)


def fetch_japanese_vowels(folder: str | os.PathLike[str] | None = None) -> Vowels:
    """Return what :func:`load_japanese_vowels` returns, after a missing file has been downloaded.

    The file is looked for in `folder`, in the folder that ``FASTRNN_DATA`` names, or in the user's cache folder;
    it is downloaded to there (extra ``data``), and its SHA-256 is checked.

    Parameters
    ----------
    folder : path or None

    Returns
    -------
    Vowels

    Raises
    ------
    DataNotFoundError
        If the file can't be downloaded, or is not the one that was published.

    Examples
    --------
    >>> from fastrnn.datasets import fetch_japanese_vowels
    >>> data = fetch_japanese_vowels()  # doctest: +SKIP
    """
    return load_japanese_vowels(
        fetched(folder, "japanese_vowels/JapaneseVowels_TRAIN.ts", "japanese_vowels/JapaneseVowels_TEST.ts")
    )


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
    Almeida, T. A., Hidalgo, J. M. G. and Yamakami, A. (2011). Contributions to the study of SMS spam filtering.
    DocEng.

    Examples
    --------
    >>> from fastrnn.datasets import load_sms_spam
    >>> data = load_sms_spam()  # doctest: +SKIP
    """
    columns = _read_columns(find(folder, "sms_spam.csv"), encoding="latin-1")
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

    Examples
    --------
    >>> from fastrnn.datasets import load_imdb
    >>> data = load_imdb()  # doctest: +SKIP
    """
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r} is unknown; pass 'train' or 'test'")
    with gzip.open(find(folder, "imdb.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["split"] == split]
    return [row["text"] for row in rows], np.array([row["label"] for row in rows], dtype=np.int64)


# A line of the head names the author. The white space around the names excludes newlines; otherwise the search would take
# quadratic time on many empty lines.
_AUTHOR_LINE = re.compile(
    r"^[^\S\n]*(HAMILTON|MADISON|JAY)(\s+(AND|OR|WITH)\s+(HAMILTON|MADISON|JAY))*[^\S\n]*$", re.M
)
_SALUTATION = re.compile(r"To the People of the State of New York\s*[:.]")
_SIGNATURE = re.compile(r"\bPUBLIUS\b")
_PAPER_NUMBER = re.compile(r"\A\s*(\d{1,9})\b")


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
        title, newspaper and date), with all white space as single spaces. Line widths and blank lines differ
        between papers, but they come from the typist and not from the author.

    Returns
    -------
    Federalist
        Lists of texts, in the order of the files' numbers.

    See Also
    --------
    federalist_head : number and author that a paper's head names.

    Examples
    --------
    >>> from fastrnn.datasets import load_federalist
    >>> data = load_federalist()  # doctest: +SKIP
    """
    home = find(folder, "federalist")

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
    r"""Read a paper's number and its author from its head.

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

    Examples
    --------
    >>> from fastrnn.datasets import federalist_head
    >>> federalist_head("10\n\nMADISON\n\nTo the People of the State of New York:")
    (10, ('madison',))
    """
    number = _PAPER_NUMBER.match(text)
    line = _AUTHOR_LINE.search(text)
    names = re.findall("HAMILTON|MADISON|JAY", line.group()) if line else []
    return (int(number.group(1)) if number else None), tuple(name.lower() for name in names)
