"""What `init` and `join` ask at a terminal where an option is missing. A wrong answer is told at
once and asked again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import typer

from protocol.errors import Code, WardroundError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from client.enrolment.site_template import PictureSources


def site_name() -> str:
    from protocol.study.study import Name

    return _ask(
        "This site's name (lower case, such as st-mary)",
        _of(Name, "A name has lower-case letters, digits, dots, - and _, 64 at most."),
    )


def coordinator() -> str | None:
    """None where it is not known yet."""
    from protocol.address import RemoteAddress

    question = "Coordinator as HOST:PORT (empty: `join` fills it in)"
    known = _of(RemoteAddress, "Write it as coordinator.example.org:9092.")
    return _ask(question, lambda text: known(text) if text else "", default="") or None


def task() -> str:
    """The name of an installed task; empty for none."""
    from tasks import registry

    installed = registry.installed()
    question = f"A task to prepare for ({', '.join(installed)}; empty: none)"
    return _ask(question, _one_of({"", *installed}, "There is no such task."), default="")


def files(tasks: Iterable[str], *, asking: bool) -> dict[str, Path | None]:
    """Task -> file, None for one that needs none. Where nobody is asked, only the latter."""
    from client.data.templates import IMAGE_TASKS, WITHOUT_FILES

    what = dict.fromkeys(IMAGE_TASKS, "labels, by accession_number,")
    found: dict[str, Path | None] = {}
    for name in tasks:
        if name in WITHOUT_FILES:
            found[name] = None
        elif asking:
            question = f"File with the {what.get(name, 'cohort')} for {name}"
            found[name] = Path(_ask(question, _file))
    return found


def pictures(
    tasks: Collection[str],
    senders: list[str],
    listen: str,
    folders: list[Path],
    *,
    asking: bool,
) -> PictureSources:
    """Where the pictures come from, asked for where a task needs some. Raises
    WardroundError(USAGE) where there is nobody to ask."""
    from client.data.dicom.receive.settings import Title
    from client.data.templates import IMAGE_TASKS
    from client.enrolment.site_template import PictureSources
    from protocol.address import ListenAddress

    needed = sorted(set(tasks) & set(IMAGE_TASKS))
    if needed and not senders and not folders:
        if not (asking and sys.stdin.isatty()):
            raise WardroundError(
                Code.USAGE,
                f"{needed[0]} reads pictures, and nothing says where they come from.",
                remedy="Name the PACS that sends them (--pacs TITLE), or a folder (--pictures).",
            )
        named = _of(Title, "An AE title has 1 to 16 letters, digits, blanks or signs.")
        title = _ask(
            "AE title of the PACS that sends pictures (empty: they lie in a folder)",
            lambda text: named(text) if text else "",
            default="",
        )
        if title:
            senders = [title]
            listen = _ask(
                "Receive them at (HOST:PORT)",
                _of(ListenAddress, "Write it as 0.0.0.0:11112."),
                default=listen,
            )
        else:
            folders = [Path(_ask("Folder of pictures", _folder))]
    return PictureSources(tuple(senders), listen, tuple(each.absolute() for each in folders))


def _ask(question: str, accepted: Callable[[str], str], default: str | None = None) -> str:
    """The first answer that `accepted` does not refuse by click.UsageError."""
    answer: str = typer.prompt(
        question,
        default=default,
        show_default=bool(default),
        err=True,
        value_proc=lambda text: accepted(text.strip()),
    )
    return answer


def _of(kind: Any, wrong: str) -> Callable[[str], str]:
    """Accepts what a settings file would, of a type of its own."""
    from pydantic import TypeAdapter, ValidationError

    def accepted(text: str) -> str:
        try:
            return str(TypeAdapter(kind).validate_python(text))
        except ValidationError:
            raise click.UsageError(wrong) from None

    return accepted


def _one_of(known: Collection[str], wrong: str) -> Callable[[str], str]:
    def accepted(text: str) -> str:
        if text not in known:
            raise click.UsageError(wrong)
        return text

    return accepted


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise click.UsageError(f"There is no file {Path(text).absolute()}.")
    return str(Path(text).absolute())


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise click.UsageError(f"There is no folder {Path(text).absolute()}.")
    return text
