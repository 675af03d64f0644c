"""How a delimited file is written, where a hospital says so in site.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field
from pydantic import model_validator as validator

from protocol.document import Document
from protocol.yaml.documents import contradiction

Encoding = Literal["utf-8", "utf-16", "latin-1", "cp1252"]
"""By Python's names of codecs."""
Stated = Literal["text", "integer", "number", "date", "time"]
_Sign = Annotated[str, Field(min_length=1, max_length=1)]
_Texts = Annotated[tuple[str, ...], Field(strict=False)]


class FileFormat(Document):
    """What is not stated is found in the file, or refused where that would be a guess."""

    encoding: Encoding = Field(
        default="utf-8", description="utf-8, utf-16, latin-1 or cp1252 (Windows in Western Europe)"
    )
    delimiter: _Sign | None = Field(
        default=None, description="the sign between fields, one of , ; | and tab unless stated"
    )
    sheet: str | None = Field(
        default=None, description="the name of a workbook's sheet, the first one unless stated"
    )
    title_lines: int = Field(
        default=0, ge=0, le=1000, description="how many lines stand above the column names"
    )
    decimal: Literal[".", ","] = Field(
        default=".", description="the sign before a number's fraction"
    )
    thousands: Literal["", ".", ",", " ", "'"] = Field(
        default="", description="the sign between groups of three digits"
    )
    dates: _Texts = Field(
        default=(),
        description="how dates and times are written, as for strptime: ['%d/%m/%Y %H:%M']",
    )
    missing: _Texts = Field(
        default=(), description="texts that mean missing, beside those that always do"
    )
    types: dict[str, Stated] = Field(
        default={}, description="column -> text, integer, number, date or time"
    )

    @validator(mode="after")
    def _signs_differ(self) -> Self:
        if self.decimal in (self.thousands, self.delimiter):
            raise contradiction(f"two meanings of {self.decimal!r}", "State which it has")
        return self
