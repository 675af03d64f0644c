"""Words that a data scientist or a coordinator may send, and what becomes of them on a terminal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """`never`: what must not be in what is printed; `always`: what must be."""

    text: str
    never: tuple[str, ...] = ()
    always: tuple[str, ...] = ()

    def faults(self, printed: str) -> list[str]:
        """Empty where the words are shown as text."""
        obeyed = [f"obeyed {part!r}" for part in self.never if part in printed]
        return obeyed + [f"swallowed {part!r}" for part in self.always if part not in printed]


WORDS = {
    "escape sequences": Words(
        "\x1b]0;OWNED\x07\x1b[2J\x1b[31mred", never=("\x1b]", "\x1b[2J", "\x1b[31mred", "\x07")
    ),
    "right to left": Words("\u202eright to left", never=("\u202e",)),
    "a line of its own": Words("one line\nstudy  finished  100/100", never=("\nstudy  finished",)),
    "markup": Words(
        "[bold red]BOLD[/bold red] [link=https://evil.example]click[/link]",
        always=("[bold red]",),
    ),
    "a closing tag": Words(
        "[/closing] markup error", never=("Traceback", "MarkupError"), always=("[/closing]",)
    ),
}
