"""Dates and times of any precision, as FHIR and FHIRPath write them.

Two of them compare component by component; where one ends before they differ, the order is
unknown (FHIRPath 2.0.0, section 6.2). A time without an offset counts as UTC.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

TemporalKind = Literal["date", "dateTime", "time"]
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?"
    r"(T(?:(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?(Z|[+-]\d\d:\d\d)?)?)?"
)
_TIME = re.compile(r"T?(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?")
_LOWEST = (1, 1, 1, 0, 0)
_UNITS = {
    "year": "year", "a": "year", "month": "month", "mo": "month", "week": "week", "wk": "week",
    "day": "day", "d": "day", "hour": "hour", "h": "hour", "minute": "minute", "min": "minute",
    "second": "second", "s": "second", "millisecond": "millisecond", "ms": "millisecond",
}  # fmt: skip
_MILLISECONDS = {"week": 604_800_000, "day": 86_400_000, "hour": 3_600_000, "minute": 60_000,
                 "second": 1000, "millisecond": 1}  # fmt: skip


@dataclass(frozen=True)
class Temporal:
    """parts: as many as are known, of year, month, day, hour, minute (int) and second (Decimal);
    of a time, from the hour on. offset: minutes east of UTC, None where it was not said."""

    kind: TemporalKind
    parts: tuple[int | Decimal, ...]
    offset: int | None = None

    @staticmethod
    def parse(text: str, kind: TemporalKind | None = None) -> Temporal | None:
        """Parses FHIR's or FHIRPath's notation; None for other text. kind: where it is known."""
        if match := _DATE.fullmatch(text):
            if match[5] and not match[3]:
                return None
            parts: tuple[int | Decimal, ...] = tuple(
                int(part) for part in match.group(1, 2, 3, 5, 6) if part
            )
            parts += (Decimal(match[7]),) if match[7] else ()
            written: TemporalKind = "dateTime" if match[4] is not None else "date"
            value = Temporal(kind if kind == "dateTime" else written, parts, _offset(match[8]))
        elif match := _TIME.fullmatch(text):
            hours = tuple(int(part) for part in match.group(1, 2) if part)
            value = Temporal("time", hours + ((Decimal(match[3]),) if match[3] else ()))
        else:
            return None
        return value if value._valid() else None

    def _valid(self) -> bool:
        clock = self.parts if self.kind == "time" else self.parts[3:]
        if not all(0 <= part < limit for part, limit in zip(clock, (24, 60, 61), strict=False)):
            return False
        if self.kind == "time":
            return True
        year, month, day = (int(part) for part in (*self.parts, 1, 1)[:3])
        return year >= 1 and 1 <= month <= 12 and 1 <= day <= _days(year, month)

    def compare(self, other: Temporal) -> int | None:
        """-1, 0 or 1; None where the precision does not tell, or a time meets a date."""
        if (self.kind == "time") != (other.kind == "time"):
            return None
        left, right = self._utc(other), other._utc(self)
        for mine, theirs in zip(left, right, strict=False):
            if mine != theirs:
                return -1 if mine < theirs else 1
        return 0 if len(left) == len(right) else None

    def _utc(self, other: Temporal) -> tuple[int | Decimal, ...]:
        """The parts as compared: in UTC where either said an offset and a time is known."""
        if self.kind == "time" or len(self.parts) < 4 or (self.offset or 0) == (other.offset or 0):
            return self.parts
        moved = self._moved(timedelta(minutes=-(self.offset or 0)))
        return moved.parts if moved else self.parts

    def _moved(self, by: timedelta) -> Temporal | None:
        """Shifted, at the same precision; None beyond the calendar."""
        known = len(self.parts)
        first = (2000, 1, 1) if self.kind == "time" else ()
        padded = [*first, *self.parts]
        padded += _LOWEST[len(padded) :]
        second = Decimal(padded[5]) if len(padded) > 5 else Decimal(0)
        micro = int((second % 1) * 1_000_000)
        try:
            year, month, day, hour, minute = (int(part) for part in padded[:5])
            moment = datetime(year, month, day, hour, minute, int(second), micro) + by
        except (OverflowError, ValueError):
            return None
        seconds: int | Decimal = Decimal(moment.second)
        if moment.microsecond:
            seconds += (Decimal(moment.microsecond) / 1_000_000).normalize()
        every = (moment.year, moment.month, moment.day, moment.hour, moment.minute, seconds)
        start = 3 if self.kind == "time" else 0
        return replace(self, parts=every[start : start + known])

    def plus(self, amount: Decimal, unit: str) -> Temporal | None:
        """The moment that many units later (FHIRPath 2.0.0, section 6.6.7): a day that a month
        lacks becomes its last. None beyond the calendar or for a unit that is no time."""
        name = _UNITS.get(unit)
        if name is None:
            return None
        if name in ("year", "month") and self.kind == "time":
            return None
        if name in ("year", "month"):
            months = int(amount) * (12 if name == "year" else 1)
            if len(self.parts) == 1:
                months = (abs(months) // 12) * (12 if months >= 0 else -12)
            month = int(self.parts[1]) if len(self.parts) > 1 else 1
            year, index = divmod(12 * int(self.parts[0]) + month - 1 + months, 12)
            if not 1 <= year <= 9999:
                return None
            parts = [year, index + 1, *self.parts[2:]][: len(self.parts)]
            if len(parts) > 2:
                parts[2] = min(int(parts[2]), _days(year, index + 1))
            return replace(self, parts=tuple(parts))
        return self._moved(timedelta(milliseconds=int(amount * _MILLISECONDS[name])))

    def boundary(self, low: bool) -> Temporal:
        """The earliest or latest moment it may stand for, in full: a date to the day, a time to
        the millisecond, a dateTime also with the most extreme offset where none was said."""
        parts = list(self.parts)
        if self.kind != "time":
            if len(parts) == 1:
                parts.append(1 if low else 12)
            if len(parts) == 2:
                parts.append(1 if low else _days(int(parts[0]), int(parts[1])))
        if self.kind != "date":
            clock = 0 if self.kind == "time" else 3
            parts += ((0, 0) if low else (23, 59))[len(parts) - clock :]
            if len(parts) - clock == 2:
                parts.append(Decimal("0.000") if low else Decimal("59.999"))
            else:
                parts[-1] = _milliseconds(Decimal(parts[-1]), low)
        offset = self.offset
        if self.kind == "dateTime" and offset is None:
            offset = 14 * 60 if low else -12 * 60
        return replace(self, parts=tuple(parts), offset=offset)

    def truncated(self, digits: int) -> Temporal | None:
        """To FHIRPath's precision: 4 a year, 6 a month, 8 a day (of a time 2, 4, 6, 9), 10, 12,
        14, 17 with hours, minutes, seconds, milliseconds. None for another number."""
        known = {"time": (2, 4, 6, 9), "date": (4, 6, 8)}.get(self.kind, (4, 6, 8, 10, 12, 14, 17))
        if digits not in known:
            return None
        count = known.index(digits) + 1
        parts = self.parts[:count]
        if digits in (6, 14) and isinstance(parts[-1], Decimal):
            parts = (*parts[:-1], Decimal(int(parts[-1])))
        return replace(self, parts=parts, offset=self.offset if count > 3 else None)

    def __str__(self) -> str:
        """In FHIR's notation."""
        texts = [f"{part:02d}" if isinstance(part, int) else _seconds(part) for part in self.parts]
        if self.kind == "time":
            return ":".join(texts)
        date = "-".join([f"{int(self.parts[0]):04d}", *texts[1:3]])
        if len(texts) <= 3:
            return date
        sign = "-" if (self.offset or 0) < 0 else "+"
        hours, minutes = divmod(abs(self.offset or 0), 60)
        zone = "" if self.offset is None else f"{sign}{hours:02d}:{minutes:02d}"
        return f"{date}T{':'.join(texts[3:])}{'Z' if self.offset == 0 else zone}"


def _offset(text: str | None) -> int | None:
    if text is None or text == "Z":
        return None if text is None else 0
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    return -minutes if text[0] == "-" else minutes


def _days(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _seconds(part: Decimal) -> str:
    whole, _, fraction = str(part).partition(".")
    return whole.zfill(2) + (f".{fraction}" if fraction else "")


def _milliseconds(second: Decimal, low: bool) -> Decimal:
    """A second given to fewer than three decimals -> its first or last millisecond."""
    exponent = min(0, int(second.as_tuple().exponent))
    if exponent <= -3:
        return second
    return second + (Decimal("0.000") if low else Decimal(1).scaleb(exponent) - Decimal("0.001"))
