"""`python -m arenads`."""

from __future__ import annotations

from arenads.cli import main

if __name__ == "__main__":
    main()
