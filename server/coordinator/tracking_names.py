"""The names that MLflow takes, checked before a study starts and not when its model is ready."""

from __future__ import annotations

from collections.abc import Iterator

_LIMIT = 200


def unfit_names(experiment: str, model: str | None) -> Iterator[tuple[str, str]]:
    """What is wrong with the names of an experiment and of a registered model (None: the task's),
    each fault with its remedy."""
    if not _is_plain(experiment):
        yield (
            "tracking.experiment cannot be an experiment's name in MLflow.",
            f"Use 1 to {_LIMIT} printable characters, without spaces at its ends.",
        )
    if model is not None and (not _is_plain(model) or set(model) & set("/:") or model[0] == "."):
        yield (
            "tracking.model cannot be a registered model's name in MLflow.",
            f"Use 1 to {_LIMIT} printable characters without `/` and `:`, without spaces at its "
            "ends and a full stop in front.",
        )


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= _LIMIT and text.isprintable() and text == text.strip()
