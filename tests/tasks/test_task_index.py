"""The index of shipped tasks says what they say themselves."""

from __future__ import annotations

import subprocess
import sys

from tasks import registry, task_index


def test_the_index_is_that_of_the_tasks() -> None:
    """After a change: `python -m tasks.task_index`."""
    assert task_index.INDEX.read_text() == task_index.text()


def test_its_sources_make_the_digest_that_a_study_carries() -> None:
    for name, facts in task_index.shipped().items():
        assert task_index.source_of(facts) == registry.load(name).source_digest()


def test_listing_tasks_imports_none_of_the_heavy_packages_and_reads_no_data() -> None:
    listed = (
        "import sys; sys.argv = ['wardround', 'tasks', '--json']\n"
        "from wardround.__main__ import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'flwr', 'mlflow', 'sklearn', 'pandas', 'opacus'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", listed], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert all(f'"{name}"' in done.stdout for name in registry.BUILT_IN)
