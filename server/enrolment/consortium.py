"""consortium.yaml: who is in a federation; one file from which all of it is set up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from protocol.document import Document
from protocol.study.study import Name
from protocol.wire.enrolment import ProposedRules
from protocol.yaml.documents import contradiction, read_yaml, validate

_EXAMPLE = """\
coordinator: {hosts: [fl.example.org], port: 9092, mlflow: "http://127.0.0.1:5000"}
hospitals: {north: 150, south: 200, west: 90}   # name: patients for training that it declares
data_scientists: [ada]
reviewers: [rita]                               # judge models; see everybody's studies
rules:                                          # proposed; each hospital confirms them
  {tasks: [heart_disease], purposes: [research], modes: [distributed],
   epsilon_per_study: 1, epsilon_lifetime: 5, epsilon_broken: 10}
"""
_REMEDY = f"Write it like this:\n{_EXAMPLE}"


class CoordinatorPlace(Document):
    """Where the coordinator is reached, and where it tracks."""

    hosts: list[str] = Field(
        min_length=1, max_length=20, description="a list of names or addresses, for the certificate"
    )
    port: int = Field(default=9092, ge=1, le=65535, description="the port on which it listens")
    mlflow: Annotated[str, StringConstraints(pattern=r"^https?://.+")] | None = Field(
        default=None, description="the http:// or https:// address of an MLflow server, or left out"
    )
    organisation: str = Field(
        default="wardround", min_length=1, max_length=64, description="a name for the certificate"
    )


class Consortium(Document):
    """The content of consortium.yaml."""

    coordinator: CoordinatorPlace = Field(description="a mapping with hosts, port and mlflow")
    hospitals: dict[Name, Annotated[int, Field(ge=1, le=10**9)]] = Field(
        default={}, description="a mapping from each hospital to the patients that it declares"
    )
    data_scientists: list[Name] = Field(default=[], description="a list of accounts")
    reviewers: list[Name] = Field(
        default=[], description="a list of accounts that judge models and see everybody's studies"
    )
    rules: ProposedRules = Field(
        default=ProposedRules(), description="rules that each hospital is proposed, and confirms"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        people = [*self.data_scientists, *self.reviewers]
        if len(set(people)) < len(people):
            raise contradiction("a person is named twice", "one account has one role")
        rules = self.rules
        caps = (rules.epsilon_per_study, rules.epsilon_lifetime)
        if {"local", "distributed"} & set(rules.modes) and None in caps:
            raise contradiction(
                "private modes need caps", "state rules.epsilon_per_study and epsilon_lifetime"
            )
        return self

    @staticmethod
    def load(path: Path) -> Consortium:
        """Raises WardroundError(CONFIGURATION), naming the first key at fault."""
        return validate(Consortium, read_yaml(path, _REMEDY), str(path))
