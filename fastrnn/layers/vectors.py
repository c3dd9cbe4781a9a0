"""Word vectors in a text file: one word a line, followed by its numbers."""

from __future__ import annotations

import gzip
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

__all__ = ["read_vectors"]


def read_vectors(path: str | os.PathLike[str], words: Collection[str]) -> dict[str, np.ndarray]:
    """Read the vectors of some words, as GloVe, fastText and word2vec write them as text.

    Parameters
    ----------
    path : path
        A line holds a word and its numbers, separated by spaces; it may end in ``.gz``. A first line of two
        integers, the number of words and of numbers, is skipped.
    words : collection of str
        Only these are kept.

    Returns
    -------
    dict of str to ndarray of shape (n_numbers,), float64

    Raises
    ------
    ValueError
        If a line has another number of numbers than the ones before, or something that is no number; the message
        names the line.
    """
    found: dict[str, np.ndarray] = {}
    width = 0
    file = Path(path).expanduser()
    with (
        gzip.open(file, "rt", encoding="utf-8")
        if file.suffix == ".gz"
        else open(file, encoding="utf-8") as lines
    ):
        for number, line in enumerate(lines, start=1):
            word, *numbers = line.rstrip().split(" ")
            if number == 1 and len(numbers) == 1 and word.isdigit():
                continue
            width = width or len(numbers)
            if len(numbers) != width or not numbers:
                raise ValueError(
                    f"{os.fspath(path)}, line {number}: {len(numbers)} numbers after the word, the lines before have {width}"
                )
            if word in words:
                try:
                    found[word] = np.array(numbers, dtype=np.float64)
                except ValueError as error:
                    raise ValueError(f"{os.fspath(path)}, line {number}: {error}") from None
    return found
