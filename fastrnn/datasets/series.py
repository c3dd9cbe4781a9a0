"""Published time series and the function that reads each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.datasets.files import fetched, find, read_columns
from fastrnn.datasets.readers import read_ts

__all__ = [
    "Series",
    "Vowels",
    "fetch_etth1",
    "fetch_japanese_vowels",
    "fetch_vic_elec",
    "load_airline",
    "load_etth1",
    "load_japanese_vowels",
    "load_vic_elec",
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
    columns = read_columns(Path(__file__).parents[1] / "data" / "airline.csv")
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
    >>> load_etth1().values.shape
    (17420, 7)
    """
    columns = read_columns(find(folder, "series/ETTh1.csv"))
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
    >>> fetch_etth1().names
    ('HUFL', 'HULL', 'MUFL', 'MULL', 'LUFL', 'LULL', 'OT')
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
    >>> load_vic_elec().values.shape
    (52608, 3)
    """
    columns = read_columns(find(folder, "series/vic_elec.csv"))
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
    >>> fetch_vic_elec().names
    ('demand', 'temperature', 'holiday')
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
    >>> vowels = load_japanese_vowels()
    >>> len(vowels.X_train), vowels.X_train[0].shape
    (270, (20, 12))
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
    >>> vowels = fetch_japanese_vowels()
    >>> len(vowels.X_test), str(vowels.y_test[0])
    (370, '1')
    """
    return load_japanese_vowels(
        fetched(folder, "japanese_vowels/JapaneseVowels_TRAIN.ts", "japanese_vowels/JapaneseVowels_TEST.ts")
    )
