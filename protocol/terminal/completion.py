"""Scripts that make a shell complete a command line through Typer."""

from __future__ import annotations

from string import Template
from typing import Literal

Shell = Literal["bash", "zsh", "fish"]

_BASH = Template("""\
_${name}_completion() {
    local IFS=$$'\\n'
    COMPREPLY=( $$( env COMP_WORDS="$${COMP_WORDS[*]}" COMP_CWORD=$$COMP_CWORD \\
        ${variable}=complete_bash "$$1" ) )
    if [[ $${#COMPREPLY[@]} -eq 1 && $${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi
    return 0
}
complete -o default -F _${name}_completion ${program}
""")
"""As Typer's own, without a space after a key: its value follows."""


def script(program: str, shell: Shell) -> str:
    """The script that the shell evaluates."""
    name, variable = program.replace("-", "_"), asked_by(program)
    if shell == "bash":
        return _BASH.substitute(name=name, variable=variable, program=program)
    from typer._completion_shared import get_completion_script

    names = {"prog_name": program, "complete_var": variable, "shell": shell}
    return get_completion_script(**names)


def asked_by(program: str) -> str:
    """The environment variable through which a shell asks a program for words."""
    return f"_{program}_COMPLETE".replace("-", "_").upper()
