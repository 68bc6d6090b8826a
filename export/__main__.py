"""``python -m export`` is ``dragoman-export``."""

from export.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
