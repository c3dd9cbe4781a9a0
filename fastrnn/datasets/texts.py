"""Published collections of texts and the function that reads each."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn.datasets.files import fetched, find, read_columns

__all__ = [
    "Federalist",
    "federalist_head",
    "fetch_federalist",
    "fetch_imdb",
    "fetch_sms_spam",
    "load_federalist",
    "load_imdb",
    "load_sms_spam",
]


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


def load_sms_spam(folder: str | os.PathLike[str] | None = None) -> tuple[list[str], NDArray[Any]]:
    """SMS messages and whether they are spam, in the order of the file.

    Parameters
    ----------
    folder : path or None
        Where ``SMSSpamCollection`` or ``sms_spam.csv`` is, the first of them that is there; None means what
        ``FASTRNN_DATA`` says.

    Returns
    -------
    texts : list of str
        5,574 messages of the published file ``SMSSpamCollection``, or 5,572 of the CSV that is widely used: there some
        messages run together at quotation marks, and letters outside ASCII are garbled.
    y : ndarray of int64
        1 is spam.

    References
    ----------
    Almeida, T. A., Hidalgo, J. M. G. and Yamakami, A. (2011). Contributions to the study of SMS spam filtering.
    DocEng.

    Examples
    --------
    >>> from fastrnn.datasets import load_sms_spam
    >>> texts, y = load_sms_spam()
    >>> len(texts) in (5572, 5574), int(y.sum())
    (True, 747)
    """
    path = find(folder, "SMSSpamCollection", "sms_spam.csv")
    if path.suffix:
        columns = read_columns(path, encoding="latin-1")
        kinds, texts = columns["v1"], columns["v2"]
    else:
        lines = path.read_text("utf-8").removesuffix("\n").split("\n")
        kinds, texts = map(list, zip(*(line.split("\t", 1) for line in lines), strict=True))
    return texts, (np.array(kinds) == "spam").astype(np.int64)


def fetch_sms_spam(folder: str | os.PathLike[str] | None = None) -> tuple[list[str], NDArray[Any]]:
    """Return what :func:`load_sms_spam` returns, after a missing file has been downloaded.

    The file is looked for in `folder`, in the folder that ``FASTRNN_DATA`` names, or in the user's cache folder. If it is
    missing, the archive of the UCI repository is downloaded (extra ``data``), its SHA-256 is checked, and
    ``SMSSpamCollection`` is taken out of it.

    Parameters
    ----------
    folder : path or None

    Returns
    -------
    texts : list of str
    y : ndarray of int64

    Raises
    ------
    DataNotFoundError
        If the file can't be downloaded, or is not the one that was published.

    Examples
    --------
    >>> from fastrnn.datasets import fetch_sms_spam
    >>> texts, y = fetch_sms_spam()
    >>> texts[1]
    'Ok lar... Joking wif u oni...'
    """
    return load_sms_spam(fetched(folder, "SMSSpamCollection", instead="sms_spam.csv"))


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
    >>> texts, y = load_imdb()
    >>> len(texts), float(y.mean())
    (25000, 0.5)
    """
    _check_split(split)
    with gzip.open(find(folder, "imdb.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["split"] == split]
    return [row["text"] for row in rows], np.array([row["label"] for row in rows], dtype=np.int64)


def _check_split(split: str) -> None:
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r} is unknown; pass 'train' or 'test'")


def fetch_imdb(
    split: str = "train", folder: str | os.PathLike[str] | None = None
) -> tuple[list[str], NDArray[Any]]:
    """Return what :func:`load_imdb` returns, after a missing file has been downloaded.

    The file is looked for in `folder`, in the folder that ``FASTRNN_DATA`` names, or in the user's cache folder. If it is
    missing, the authors' archive ``aclImdb_v1.tar.gz`` (84 MB) is downloaded (extra ``data``), its SHA-256 is checked, and
    its labelled reviews are written to ``imdb.jsonl.gz``.

    Parameters
    ----------
    split : {"train", "test"}
        Half of the reviews to load.
    folder : path or None

    Returns
    -------
    texts : list of str
    y : ndarray of shape (25000,), int64

    Raises
    ------
    DataNotFoundError
        If the file can't be downloaded, or is not the one that was published.

    Examples
    --------
    >>> from fastrnn.datasets import fetch_imdb
    >>> texts, y = fetch_imdb("test")
    >>> len(texts), float(y.mean())
    (25000, 0.5)
    """
    _check_split(split)
    return load_imdb(split, fetched(folder, "imdb.jsonl.gz"))


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
    >>> papers = load_federalist()
    >>> [len(group) for group in papers]
    [17, 15, 5]
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


def fetch_federalist(
    folder: str | os.PathLike[str] | None = None, *, drop_author_line: bool = True, body_only: bool = False
) -> Federalist:
    """Return what :func:`load_federalist` returns, after missing papers have been downloaded.

    The folder ``federalist`` is looked for in `folder`, in the folder that ``FASTRNN_DATA`` names, or in the user's cache
    folder. If it is missing, Project Gutenberg's book 18 is downloaded (extra ``data``) from its archive at GitHub, where a
    commit fixes its text, its SHA-256 is checked, and 37 of its papers are written to files.

    Parameters
    ----------
    folder : path or None
    drop_author_line, body_only : bool
        As in :func:`load_federalist`.

    Returns
    -------
    Federalist

    Raises
    ------
    DataNotFoundError
        If the book can't be downloaded, or is not the one that was published.

    Examples
    --------
    >>> from fastrnn.datasets import fetch_federalist
    >>> papers = fetch_federalist(body_only=True)
    >>> papers.hamilton[0][:52]
    'AFTER an unequivocal experience of the inefficacy of'
    """
    home = fetched(folder, "federalist")
    return load_federalist(home, drop_author_line=drop_author_line, body_only=body_only)


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
