"""What benchmarks share. Importing it makes the tests' own helpers importable, from wherever
`python bench/NAME.py` is called."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
