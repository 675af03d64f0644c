"""What an account may be given; apart, so that a command's help loads nothing heavy."""

from __future__ import annotations

from typing import Literal

TOKEN_DAYS = 90
"""Days for which a token is good, unless the operator says otherwise."""
Role = Literal["own_studies", "all_studies", "reviewer"]
"""Which studies an account sees, and whether it submits any: a reviewer sees all, submits none, and
decides about models. Only its submitter can cancel or resume a study."""
