"""What the package reads of published archives: functions of the downloaded file and the path to write."""

from __future__ import annotations

import gzip
import json
import re
import tarfile
import zipfile
from pathlib import Path

from fastrnn.training.progress import progress

__all__ = ["messages", "papers", "reviews"]

_REVIEW = re.compile(r"aclImdb/(train|test)/(neg|pos)/(\d+)_(\d+)\.txt")


def reviews(archive: Path, target: Path) -> None:
    """Write the labelled reviews of ``aclImdb_v1.tar.gz`` as gzipped JSON lines.

    The archive has a file for each review, ``aclImdb/train/neg/0_3.txt``: a number in its folder, and the rating. The lines
    are ordered by half (training first), class (negative first) and number.
    """
    rows = []
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            name = _REVIEW.fullmatch(member.name)
            file = tar.extractfile(member) if name else None
            if name and file:
                split, side, number, rating = name.groups()
                rows.append(
                    (split, int(side == "pos"), int(number), int(rating), file.read().decode("utf-8"))
                )
    rows.sort(key=lambda row: (row[0] == "test", row[1:3]))
    names = ("split", "label", "id", "rating", "text")
    with gzip.open(target, "wt", encoding="utf-8") as out:
        for row in progress(rows, "Writing reviews", "review"):
            out.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n")


def messages(archive: Path, target: Path) -> None:
    """Take the file ``SMSSpamCollection`` out of its archive."""
    with zipfile.ZipFile(archive) as files:
        target.write_bytes(files.read("SMSSpamCollection"))


#: Numbers of the papers in each folder. Those of `unknown` are kept apart, to be attributed; Jay's, and Hamilton's and
#: Madison's further papers, are not used.
PAPERS = {
    "hamilton": (1, 6, 7, 8, 9, 11, 12, 13, 15, 16, 21, 22, 23, 24, 25, 26, 27),
    "madison": (10, 14, 18, 19, 20, 37, 39, 40, 41, 42, 44, 45, 46, 47, 48),
    "unknown": (43, 38, 60, 17, 30),
}
_PAPER = re.compile(r"FEDERALIST\.? No\.(?=\s*(\d+))")


def papers(book: Path, target: Path) -> None:
    """Write the papers of the book, each to a file of its own in the folder of its author."""
    text = book.read_text("ascii")  # line ends become \\n
    starts = list(_PAPER.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    found = {int(start.group(1)): text[start.end() : end] for start, end in zip(starts, ends, strict=True)}
    for author, numbers in PAPERS.items():
        (target / author).mkdir(parents=True)
        for place, number in enumerate(numbers, start=1):
            (target / author / f"paper_{place}.txt").write_text(found[number], encoding="utf-8")
