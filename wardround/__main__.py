"""The two commands, `wardround` (also as `python -m wardround`) and `wardround-site`."""

from __future__ import annotations

import sys

EXIT_USAGE = 2


def main() -> None:
    """`wardround`."""
    _require_own_rooms()
    from launch.cli.main import main as run

    run()


def site_main() -> None:
    """`wardround-site`."""
    _require_own_rooms()
    from client.cli.main import main as run

    run()


def _require_own_rooms() -> None:
    try:
        from wardround.rooms import require_own_rooms

        require_own_rooms()
    except ImportError as error:
        print(f"error (usage): {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    main()
