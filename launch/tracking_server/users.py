"""The users of MLflow's basic-auth app: one for each person, all with one password that is made
anew at every start and never leaves this process. The people's own stand in people.json alone."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, assert_never

from launch.tracking_server.people import Part

if TYPE_CHECKING:
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

OPERATOR = "wardround-operator"
"""The administrator that basic-auth asks for; nobody can log in as it (no account has its name)."""
_MODELS = ("registered_model", "*")


class Users:
    """store: that of the running basic-auth app. Whoever is not among `parts` is removed from it,
    with their permissions."""

    def __init__(self, store: SqlAlchemyStore, password: str, parts: dict[str, Part]) -> None:
        self._store, self._password = store, password
        self._known: set[str] = set()
        for user in store.list_users():
            if user.username not in {OPERATOR, *parts}:
                store.delete_user(user.username)
        for name, part in parts.items():
            self._enter(name, part)

    def authorization(self, name: str, part: Part) -> bytes:
        """The header with which somebody's request goes on to the basic-auth app."""
        if name not in self._known:
            self._enter(name, part)
        return b"Basic " + base64.b64encode(f"{name}:{self._password}".encode())

    def _enter(self, name: str, part: Part) -> None:
        store = self._store
        if store.has_user(name):
            store.update_user(name, password=self._password, is_admin=part == "coordinator")
        else:
            store.create_user(name, self._password, is_admin=part == "coordinator")
        match part:
            case "coordinator":
                pass  # writes to every run, also of an experiment that somebody else has made
            case "data_scientist":
                store.grant_user_permission(name, *_MODELS, permission="READ")
            case "reviewer":
                store.grant_user_permission(name, *_MODELS, permission="MANAGE")
            case _:
                assert_never(part)
        self._known.add(name)
