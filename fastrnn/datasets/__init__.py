"""Data sets for tests, examples and benchmarks.

The airline series is part of the package. The other sets are files in a folder: the argument `folder`, or else the
folder that the environment variable ``FASTRNN_DATA`` names. For each ``load_`` function there is a ``fetch_`` function
that downloads what is missing from where it is published (extra ``data``), to that folder, or to the user's cache folder if
no folder is named. If a file is missing, the error gives its name and where it is published.
"""

from fastrnn.datasets.files import DataNotFoundError, data_folder
from fastrnn.datasets.readers import LongTable, read_arff, read_long, read_ts
from fastrnn.datasets.series import (
    Series,
    Vowels,
    fetch_etth1,
    fetch_japanese_vowels,
    fetch_vic_elec,
    load_airline,
    load_etth1,
    load_japanese_vowels,
    load_vic_elec,
)
from fastrnn.datasets.texts import (
    Federalist,
    federalist_head,
    fetch_federalist,
    fetch_imdb,
    fetch_sms_spam,
    load_federalist,
    load_imdb,
    load_sms_spam,
)

__all__ = [
    "DataNotFoundError",
    "Federalist",
    "LongTable",
    "Series",
    "Vowels",
    "data_folder",
    "federalist_head",
    "fetch_etth1",
    "fetch_federalist",
    "fetch_imdb",
    "fetch_japanese_vowels",
    "fetch_sms_spam",
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
