"""Documents of YAML: aliases are written out within bounds."""

from pathlib import Path

import pytest

from protocol.errors import Code, WardroundError
from protocol.yaml.documents import read_yaml

LAUGHS = "\n".join(
    ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
)
"""Ten lines, ten thousand million values."""


@pytest.mark.parametrize("text", [LAUGHS, "a: &a [*a]", "a: &a {b: {c: *a}}"])
def test_an_alias_is_no_bomb(tmp_path: Path, text: str) -> None:
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(WardroundError) as refused:
        read_yaml(tmp_path / "site.yaml", "")
    assert refused.value.code is Code.CONFIGURATION


def test_an_alias_stands_for_its_value(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("a: &a {b: 1}\nc: [*a, *a]\n")
    assert read_yaml(tmp_path / "site.yaml", "")["c"] == [{"b": 1}, {"b": 1}]
