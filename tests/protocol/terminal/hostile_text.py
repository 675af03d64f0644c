"""What another party may call a study, a site or a reason, and what of it a terminal would obey."""

from __future__ import annotations

HOSTILE = {
    "title bar": "\x1b]0;OWNED\x07 study",
    "screen": "\x1b[2J\x1b[31mred",
    "one byte": "a\x9b2Jb",
    "backwards": "a\u202elufmrah\u2066b",
    "second line": "one line\nstudy  finished  100/100",
    "return": "wrong\rright",
    "markup": "[bold red]BOLD[/bold red] [link=https://evil.example]click[/link]",
    "closing tag": "[/closing] :skull: tag",
}
ALL_OF_IT = " ".join(HOSTILE.values())


def faults(printed: str) -> list[str]:
    """What a terminal would obey of ALL_OF_IT in what was printed, or what is not there as text."""
    text = (
        *("\\x1b]0;OWNED", "\\u202e", "\\nstudy"),
        *("[bold red]", "[/link]", "[/closing]", ":skull:"),
    )
    return obeyed(printed) + [f"swallowed {part!r}" for part in text if part not in printed]


def obeyed(printed: str) -> list[str]:
    """What a terminal would obey of ALL_OF_IT, or of a part of it, in what was printed."""
    commands = (
        *("\x1b]", "\x07", "\x1b[2J", "\x1b[31mred", "\x9b", "\u202e", "\u2066", "\r"),
        "\nstudy  finished",
    )
    return [f"obeyed {part!r}" for part in commands if part in printed]
