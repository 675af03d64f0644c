"""consortium.yaml: who is in a federation; one file from which all of it is set up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from protocol.document import Document, first_fault
from protocol.errors import Code, WardroundError
from protocol.study.study import Name
from protocol.wire.enrolment import ProposedRules

_EXAMPLE = """\
coordinator: {hosts: [fl.example.org], port: 9092, mlflow: "http://127.0.0.1:5000"}
hospitals: {north: 150, south: 200, west: 90}   # name: patients for training that it declares
data_scientists: [ada]
reviewers: [rita]                               # see everybody's studies
rules:                                          # proposed; each hospital confirms them
  {tasks: [heart_disease], purposes: [research], modes: [distributed],
   epsilon_per_study: 1, epsilon_lifetime: 5, epsilon_broken: 10}
"""


class CoordinatorPlace(Document):
    """Where the coordinator is reached (`hosts`: names or addresses in its certificate), and the
    MLflow server that it writes to."""

    hosts: Annotated[list[str], Field(min_length=1, max_length=20)]
    port: Annotated[int, Field(ge=1, le=65535)] = 9092
    mlflow: Annotated[str, StringConstraints(pattern=r"^https?://.+")] | None = None
    organisation: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "wardround"


class Consortium(Document):
    """The content of consortium.yaml. `hospitals`: name -> patients for training that it declares;
    `reviewers`: accounts that see everybody's studies."""

    coordinator: CoordinatorPlace
    hospitals: dict[Name, Annotated[int, Field(ge=1, le=10**9)]] = Field(default={})
    data_scientists: list[Name] = Field(default=[])
    reviewers: list[Name] = Field(default=[])
    rules: ProposedRules = ProposedRules()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        people = [*self.data_scientists, *self.reviewers]
        if len(set(people)) < len(people):
            raise ValueError("a person is named twice")
        rules = self.rules
        caps = (rules.epsilon_per_study, rules.epsilon_lifetime)
        if {"local", "distributed"} & set(rules.modes) and None in caps:
            raise ValueError("private modes need rules.epsilon_per_study and epsilon_lifetime")
        return self

    @staticmethod
    def load(path: Path) -> Consortium:
        """Raises WardroundError(CONFIGURATION), naming the first key at fault."""
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            return Consortium.model_validate_json(json.dumps(values, default=str))
        except OSError as error:
            fault = f"it cannot be read ({error.strerror})"
        except (yaml.YAMLError, UnicodeDecodeError):
            fault = "it is not valid YAML"
        except ValidationError as error:
            field, why, _ = first_fault(error)
            fault = f"{field or 'the file'}: {why}"
        raise WardroundError(
            Code.CONFIGURATION, f"{path}: {fault}.", remedy=f"Write it like this:\n{_EXAMPLE}"
        )
