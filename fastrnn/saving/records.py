"""How the records of a fitted forecaster are written and read: time axes, plans, histories of series, pandas' timestamps.

Records are plain objects and named tuples of `fastrnn.forecasting`; a file names their modules and classes. Their attributes
are set without calling a constructor.
"""

from __future__ import annotations

import importlib
from typing import Any

from fastrnn.extras import extra
from fastrnn.saving.codec import Decoder, Encoder, Kind, register

__all__: list[str] = []

_PACKAGE = "fastrnn.forecasting"


def _is_record(value: Any) -> bool:
    if isinstance(value, type) or hasattr(value, "get_params"):
        return False
    return type(value).__module__.startswith(f"{_PACKAGE}.")


def _encode_record(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
    fields = value._asdict() if hasattr(value, "_asdict") else value.__getstate__()
    module = type(value).__module__.removeprefix(f"{_PACKAGE}.")
    return {"module": module, "class": type(value).__qualname__, "fields": encoder(dict(fields or {}), path)}


def _decode_record(data: dict[str, Any], decoder: Decoder) -> Any:
    module, name = str(data["module"]), str(data["class"])
    if not module.isidentifier() or not name.isidentifier():
        raise ValueError(f"it has a record {module}.{name}")
    try:
        cls = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name, None)
    except ImportError:
        cls = None
    if not isinstance(cls, type) or cls.__module__ != f"{_PACKAGE}.{module}" or hasattr(cls, "get_params"):
        raise ValueError(f"it has a record {module}.{name}, which this version does not know")
    fields = decoder(data["fields"])
    if issubclass(cls, tuple):
        return cls(**fields)
    value = object.__new__(cls)
    value.__dict__.update(fields)
    return value


# -- pandas, which is imported only if a file or an object needs it


def _of_pandas(value: Any, *names: str) -> bool:
    if type(value).__module__.split(".")[0] != "pandas":
        return False
    return bool({cls.__name__ for cls in type(value).__mro__} & set(names))


def _decode_stamp(data: dict[str, Any], decoder: Decoder) -> Any:
    pd = extra("pandas", "frames")
    kind, value = data["kind"], data["value"]
    if kind == "offset":
        return pd.tseries.frequencies.to_offset(str(value))
    if kind == "period":
        return pd.Period(ordinal=int(value), freq=str(data["frequency"]))
    if kind == "timedelta":
        return pd.Timedelta(int(value), unit="ns")
    stamp = pd.Timestamp(str(value)).as_unit(str(data["unit"]))
    zone = data.get("zone")
    return stamp if zone is None else stamp.tz_convert(str(zone))


def _encode_stamp(value: Any, encoder: Encoder, path: str) -> dict[str, Any]:
    if _of_pandas(value, "BaseOffset"):
        return {"kind": "offset", "value": value.freqstr}
    if _of_pandas(value, "Period"):
        return {"kind": "period", "value": value.ordinal, "frequency": value.freqstr}
    if _of_pandas(value, "Timedelta"):
        return {"kind": "timedelta", "value": value.value}
    # The text holds the offset from UTC only, which the zone changes with its clocks.
    zone = None if value.tz is None else str(value.tz)
    return {"kind": "timestamp", "value": value.isoformat(), "unit": value.unit, "zone": zone}


register(
    Kind("record", _is_record, _encode_record, _decode_record, shared=True),
    Kind(
        "stamp",
        lambda v: _of_pandas(v, "Timestamp", "Period", "Timedelta", "BaseOffset"),
        _encode_stamp,
        _decode_stamp,
    ),
)
