"""What a shell offers: asked through a real bash, and as zsh and fish ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from launch.cli.completion import overrides
from tests.waiting import HUNG

SCRIPTS = Path(sys.executable).parent
_ASK = """
export PATH={scripts}:$PATH
compopt() {{ echo "compopt $*" >&2; }}
eval "$(wardround completion bash)"
COMP_WORDS=({words})
COMP_CWORD={at}
_wardround_completion wardround
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def bash(*words: str) -> tuple[list[str], str]:
    """(what bash would offer for the last of these words, what compopt was told)."""
    quoted = " ".join(f"'{word}'" for word in words)
    text = _ASK.format(scripts=SCRIPTS, words=quoted, at=len(words) - 1)
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=HUNG)
    return done.stdout.split(), done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("wardround", "pl"), ["plan"]),
        (("wardround", "run", "privacy.ep"), ["privacy.epsilon="]),
        (("wardround", "run", "task", "=", "heart"), ["heart_disease"]),
        (("wardround", "run", "privacy", "="), ["distributed", "local", "none"]),
        (("wardround", "run", "rounds", "=", "3", "optimiser", "=", "fedad"),
         ["fedadagrad", "fedadam"]),
        (("wardround", "plan", "averaging", "=", "l"), ["last_half"]),
    ],
)  # fmt: skip
def test_bash(words: tuple[str, ...], offered: list[str]) -> None:
    found, told = bash(*words)
    assert found == offered
    assert ("nospace" in told) == (len(offered) == 1 and offered[0].endswith("="))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_want_the_whole_word(shell: str) -> None:
    environment = {
        **os.environ,
        "_WARDROUND_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "wardround run federation=de",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [SCRIPTS / "wardround"], env=environment, capture_output=True, text=True, timeout=HUNG
    )
    assert "federation=deployment" in done.stdout
    assert "inprocess" not in done.stdout


def offers(incomplete: str, *before: str) -> dict[str, str]:
    context = click.Context(click.Command("run"))
    context.params = {"overrides": before}
    return dict(overrides(context, incomplete))


def test_keys_come_with_their_meaning_and_values_from_the_groups() -> None:
    assert "lose" in offers("privacy.")["privacy.epsilon="]
    assert set(offers("experiment=heart")) == {
        f"experiment=heart_disease{end}" for end in ("", "_eps0.1", "_local", "_none")
    }
    assert set(offers("federation.masked=")) == {
        "federation.masked=true",
        "federation.masked=false",
    }
    assert set(offers("baselines=")) == {"baselines=[local]", "baselines=[pooled]"}
    assert offers("rounds=") == {"rounds=20": "the default"}
    assert offers("nothing=") == {}


@pytest.mark.parametrize("program", ["wardround", "wardround-site"])
def test_a_script_for_every_shell_that_is_known(program: str) -> None:
    for shell in ("bash", "zsh", "fish"):
        for_shell: list[str | Path] = [SCRIPTS / program, "completion", shell]
        done = subprocess.run(for_shell, capture_output=True, text=True, timeout=HUNG)
        assert done.returncode == 0
        assert f"_{program.replace('-', '_')}_completion" in done.stdout or shell == "fish"
        assert f"_{program.replace('-', '_').upper()}_COMPLETE" in done.stdout
    asked: list[str | Path] = [SCRIPTS / program, "completion", "tcsh"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=HUNG)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error (usage)" in done.stderr
