"""Time axes: regular grids of timestamps."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.extras import extra

__all__ = ["RangeAxis", "StampAxis", "check_order", "read_axis", "season_of_frequency"]

#: Calendar frequencies that are tried for stamps with gaps, in this order: years, quarters, months, weeks, working days.
_CALENDAR = (
    ["YS", "YE", "QS", "QE", "MS", "ME"]
    + [f"W-{d}" for d in ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")]
    + ["B"]
)
#: One zone for each way in which clocks were put forward: the hour and the dates.
_ZONES = (
    "Europe/London",
    "Europe/Berlin",
    "Europe/Helsinki",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Santiago",
    "Australia/Sydney",
    "Pacific/Auckland",
)
_HOUR = 3_600_000_000_000
_SEASONS = {"Y": 1, "A": 1, "Q": 4, "M": 12, "W": 52, "B": 5, "D": 7}


class RangeAxis:
    """Steps counted by integers: ``start, start + step, ...``."""

    frequency: Any

    def __init__(self, start: int = 0, step: int = 1) -> None:
        self.start, self.frequency = int(start), int(step)

    def stamps(self, start: int, stop: int) -> Any:
        """Stamps of the steps from `start` to `stop`."""
        return np.arange(start, stop) * self.frequency + self.start

    def name(self, position: int) -> str:
        """Describe a step, for messages."""
        return f"step {position * self.frequency + self.start}"

    def positions(self, stamps: Any, series: str) -> NDArray[Any]:
        """Steps of `stamps`, counted from the first step of the axis.

        Raises
        ------
        ValueError
            If a stamp is not on the grid.
        """
        offset = np.asarray(stamps) - self.start
        positions, rest = np.divmod(offset, self.frequency)
        if rest.any():
            at = int(np.argmax(rest != 0))
            raise ValueError(
                f"series {series}: the stamp {np.asarray(stamps)[at]} is not on the grid of step "
                f"{self.frequency} that starts at {self.start}; resample the series to one frequency"
            )
        return positions.astype(np.int64)

    def check_clock(self, positions: NDArray[Any], series: str) -> None:
        """Do nothing: integers have no time zone."""

    def index(self, start: int, stop: int) -> Any:
        """Index of the steps from `start` to `stop`."""
        pd = extra("pandas", "frames")

        first = self.start + start * self.frequency
        return pd.RangeIndex(first, self.start + stop * self.frequency, self.frequency)


class StampAxis:
    """Steps named by a pandas DatetimeIndex or PeriodIndex of a frequency."""

    def __init__(self, first: Any, frequency: Any, name: Any = None) -> None:
        self.first, self.frequency, self.index_name = first, frequency, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StampAxis) and (self.first, self.frequency) == (other.first, other.frequency)

    def __hash__(self) -> int:
        return hash((self.first, self.frequency))

    @property
    def periods(self) -> bool:
        """Whether stamps are periods."""
        pd = extra("pandas", "frames")

        return isinstance(self.first, pd.Period)

    def index(self, start: int, stop: int) -> Any:
        """Index of the steps from `start` to `stop`."""
        pd = extra("pandas", "frames")

        if self.periods:
            whole = pd.period_range(
                self.first + start, periods=max(stop - start, 0), freq=self.frequency, name=self.index_name
            )
            return whole
        first = self.first + start * self.frequency
        if first.tz is not None and isinstance(self.frequency, pd.offsets.Day):
            # In local time, because some days of a time zone do not have 24 hours.
            local = self.first.tz_localize(None) + start * self.frequency
            first = local.tz_localize(first.tz, ambiguous=True, nonexistent="shift_forward")
        return pd.date_range(first, periods=max(stop - start, 0), freq=self.frequency, name=self.index_name)

    stamps = index

    def name(self, position: int) -> str:
        """How messages call a step."""
        return str(self.index(position, position + 1)[0])

    def positions(self, stamps: Any, series: str) -> NDArray[Any]:
        """Steps of `stamps`, counted from the first step of the axis."""
        pd = extra("pandas", "frames")

        stamps = pd.PeriodIndex(stamps) if self.periods else pd.DatetimeIndex(stamps)
        if self.periods:
            if stamps.freq != self.frequency:
                raise ValueError(
                    f"series {series} has the frequency {stamps.freqstr}, expected was {self.first.freqstr}: resample it"
                )
            result: NDArray[Any] = (stamps.asi8 - self.first.ordinal).astype(np.int64)
            return result
        if (stamps.tz is None) != (self.first.tz is None):
            raise ValueError(
                f"series {series}: the stamp {stamps[0]} has {'no ' if stamps.tz is None else 'a '}time zone, unlike "
                f"{self.first}; use tz_localize or tz_convert so that all have the same"
            )
        first = self.first
        if stamps.tz is not None:
            stamps = stamps.tz_convert(first.tz)
            if isinstance(self.frequency, pd.offsets.Day):
                # In local time, because some days of a time zone do not have 24 hours.
                stamps, first = stamps.tz_localize(None), first.tz_localize(None)
        fixed = _nanoseconds(self.frequency)
        if fixed:
            offset = (stamps.as_unit("ns") - first.as_unit("ns")).asi8 if len(stamps) else np.zeros(0)
            positions, rest = np.divmod(offset, fixed)
            off = rest != 0
        else:
            low, high = min(stamps.min(), self.first), max(stamps.max(), self.first)
            grid = pd.date_range(low, high, freq=self.frequency)
            positions = grid.get_indexer(stamps)
            off = positions < 0
            positions = positions - grid.get_indexer([self.first])[0]
        if off.any():
            raise ValueError(
                f"series {series}: the stamp {stamps[int(np.argmax(off))]} is not on the grid of frequency "
                f"{self.frequency.freqstr!r} that starts at {self.first}; resample the series to one frequency, or pass "
                "freq="
            )
        return positions.astype(np.int64)

    def check_clock(self, positions: NDArray[Any], series: str) -> None:
        """Raise if stamps without a time zone lack just the hour by which a clock was put forward.

        Parameters
        ----------
        positions : ndarray of int
            Positions of the stamps, in ascending order.
        series : str
            Name of the series, for messages.

        Raises
        ------
        ValueError
        """
        fixed = _nanoseconds(self.frequency)
        if not fixed or _HOUR % fixed or (not self.periods and self.first.tz is not None):
            return
        missing = _HOUR // fixed
        before = positions[:-1][np.diff(positions) == missing + 1]
        if not len(before):
            return
        pd = extra("pandas", "frames")
        first = self.first.to_timestamp() if self.periods else self.first
        begins = pd.DatetimeIndex(first.as_unit("ns").asm8 + (before + 1) * np.timedelta64(fixed, "ns"))
        ends = begins + pd.Timedelta(_HOUR - fixed, unit="ns")
        for zone in _ZONES:
            skipped = _skipped_by_clocks(begins, zone) & _skipped_by_clocks(ends, zone)
            if skipped.any():
                raise ValueError(
                    f"series {series} has no stamp {begins[int(np.argmax(skipped))]}, where the clocks of {zone} were put "
                    "forward by an hour, so its stamps are no steps of equal length; give them their time zone "
                    "(tz_localize) or use UTC, or where the step is only missing, put it in as NaN (asfreq)"
                )


def _skipped_by_clocks(stamps: Any, zone: str) -> NDArray[Any]:
    """Mask of local times that do not exist, because clocks of the zone were put forward; False for unknown zones."""
    try:
        result: NDArray[Any] = stamps.tz_localize(
            zone, ambiguous=np.ones(len(stamps), bool), nonexistent="NaT"
        ).isna()
        return result
    except (KeyError, OSError, ValueError):
        return np.zeros(len(stamps), bool)


def _nanoseconds(frequency: Any) -> int | None:
    """Length of a step in nanoseconds; None if it depends on the calendar."""
    try:
        return int(frequency.nanos)
    except (ValueError, AttributeError):
        return None


def season_of_frequency(axis: Any) -> int:
    """Usual season of a frequency in steps: 12 for months, 24 for hours, 7 for days, 1 if unknown."""
    if isinstance(axis, RangeAxis):
        return 1
    fixed = _nanoseconds(axis.frequency)
    if fixed:
        day = 86_400_000_000_000
        if fixed < day:
            return day // fixed if day % fixed == 0 and day // fixed <= 288 else 1
        return 7 if fixed == day else 52 if fixed == 7 * day else 1
    name = axis.frequency.rule_code
    if axis.frequency.n != 1:
        return 1
    return _SEASONS.get(name[:1], 1)


def read_axis(index: Any, freq: Any, series: str) -> RangeAxis | StampAxis:
    """Find the regular grid of an index, which may have gaps.

    Parameters
    ----------
    index : pandas index or array of integers or stamps
        In ascending order.
    freq : str, optional
        Frequency; by default it is inferred.
    series : str
        Name of the series, for messages.

    Raises
    ------
    ValueError
        If stamps are unsorted or duplicated, or have no common frequency.
    """
    pd = extra("pandas", "frames")

    index = pd.Index(index)
    check_zones(index, f"series {series}")
    if isinstance(index, pd.MultiIndex) or (index.dtype.kind not in "iuM" and not _has_stamps(index)):
        raise ValueError(
            f"series {series} has an index of dtype {index.dtype}: give a DatetimeIndex, PeriodIndex or RangeIndex "
            "(pandas.to_datetime makes stamps of text)"
        )
    if index.hasnans:
        raise ValueError(
            f"series {series}: the stamp of row {int(np.argmax(index.isna()))} is missing; drop the row"
        )
    check_order(index, series)
    if index.dtype.kind in "iu":
        if freq is not None and (
            not isinstance(freq, (int, np.integer)) or isinstance(freq, bool) or freq < 1
        ):
            raise ValueError(
                f"freq={freq!r}: the stamps of series {series} are integers; give the positive integer step between them"
            )
        steps = np.diff(index.to_numpy())
        step = int(freq) if freq is not None else int(np.gcd.reduce(steps)) if len(steps) else 1
        if freq is None and len(steps) and _most_common(steps) != step:
            raise ValueError(
                f"series {series} has steps of {step} and of {_most_common(steps)}: its frequency is mixed; resample it, "
                "or pass freq="
            )
        return RangeAxis(int(index[0]), step)
    if isinstance(index, pd.PeriodIndex):
        return StampAxis(index[0], index.freq, index.name)
    if freq is not None:
        try:
            frequency = pd.tseries.frequencies.to_offset(freq)
        except ValueError as error:
            raise ValueError(
                f"freq={freq!r} is not a frequency of pandas; give one such as 'h', 'D' or 'MS'"
            ) from error
    else:
        frequency = index.freq if isinstance(index, pd.DatetimeIndex) and index.freq else _infer(index)
    if frequency is None and len(index) == 1:
        raise ValueError(
            f"series {series} has the single stamp {index[0]}, which has no frequency; pass freq=, such as 'h', 'D' or 'MS'"
        )
    if frequency is None:
        raise ValueError(
            f"series {series}: no frequency fits its {len(index)} stamps, which start at {index[0]}; pass freq=, such as "
            "'h', 'D' or 'MS', or resample the series"
        )
    return StampAxis(index[0], frequency, index.name)


def _has_stamps(index: Any) -> bool:
    pd = extra("pandas", "frames")

    return isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex))


def check_zones(index: Any, what: str) -> None:
    """Raise if stamps are of several time zones, or some have none."""
    if index.dtype != object:
        return
    zones = {str(stamp.tzinfo) for stamp in index if isinstance(stamp, datetime)}
    if len(zones) > 1:
        raise ValueError(
            f"{what} has stamps of several time zones ({', '.join(sorted(zones))}); bring them to one: "
            "pandas.to_datetime(..., utc=True), and tz_localize those without a zone (None) first"
        )


def check_order(index: Any, series: str) -> None:
    """Raise if stamps are not strictly ascending."""
    if index.is_monotonic_increasing and index.is_unique:
        return
    if not index.is_unique:
        stamp = index[int(np.argmax(index.duplicated()))]
        raise ValueError(
            f"series {series} has the stamp {stamp} more than once; aggregate the rows, or where a clock was put back, "
            "use tz_localize(..., ambiguous='infer') or UTC"
        )
    numbers = index.asi8 if _has_stamps(index) else index.to_numpy()
    at = int(np.argmin(np.diff(numbers)))
    raise ValueError(
        f"series {series} is not sorted: the stamp {index[at + 1]} stands after {index[at]}; call sort_index() (or "
        "sort_values of the stamps' column) first"
    )


def _infer(index: Any) -> Any:
    """Infer the frequency of stamps with gaps; None if no frequency fits."""
    pd = extra("pandas", "frames")

    to_offset = pd.tseries.frequencies.to_offset
    if len(index) < 2:
        return None
    if len(index) >= 3:
        found = pd.DatetimeIndex(pd.DatetimeIndex(index, freq=None), freq="infer").freq
        if found is not None:
            return found
    steps = np.diff(index.as_unit("ns").asi8)
    least = int(steps.min())
    day = 86_400_000_000_000
    if least >= 5 * day:
        local = index.tz_localize(None) if index.tz is not None else index
        for name in _CALENDAR:
            offset = to_offset(name)
            if name != "B" and bool(all(offset.is_on_offset(stamp) for stamp in local)):
                grid = len(pd.date_range(local[0], local[-1], freq=offset))
                if grid <= 4 * len(index):
                    return offset
    if (steps % least).any() or _most_common(steps) != least:
        return None
    return pd.offsets.Day(least // day) if least % day == 0 else to_offset(pd.Timedelta(least, unit="ns"))


def _most_common(steps: NDArray[Any]) -> int:
    sizes, counts = np.unique(steps, return_counts=True)
    return int(sizes[counts.argmax()])
