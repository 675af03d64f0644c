"""Hours of the week in which something is allowed."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from protocol.document import Document
from protocol.yaml.values import YamlList

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _clock_time(value: Any) -> time:
    if isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        return time.fromisoformat(value)
    if value == "24:00":
        return time(0)
    raise ValueError("not a time of day")


ClockTime = Annotated[time, BeforeValidator(_clock_time)]


class Hours(Document):
    """Hours of local time on some days; they end on the next day where `to` is before `from`."""

    model_config = ConfigDict(populate_by_name=False)

    days: YamlList[Day] = Field(
        default=_DAYS, min_length=1, description="a list of mon, tue, wed, thu, fri, sat, sun"
    )
    start: ClockTime = Field(alias="from", description='a local time of day such as "19:00"')
    end: ClockTime = Field(alias="to", description='a local time of day such as "06:00"')

    def contains(self, local: datetime) -> bool:
        """Returns whether the local time lies in these hours."""
        at, today = local.time(), _DAYS[local.weekday()]
        yesterday = _DAYS[(local - timedelta(days=1)).weekday()]
        if self.start < self.end:
            return today in self.days and self.start <= at < self.end
        late = today in self.days and at >= self.start
        return late or (yesterday in self.days and at < self.end)
