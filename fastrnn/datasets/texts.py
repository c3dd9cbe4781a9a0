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

from fastrnn.datasets.files import find, read_columns

__all__ = ["Federalist", "federalist_head", "load_federalist", "load_imdb", "load_sms_spam"]


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
    columns = read_columns(find(folder, "sms_spam.csv"), encoding="latin-1")
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
