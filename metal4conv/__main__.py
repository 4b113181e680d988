"""Entry point of `metal4conv` and `python -m metal4conv`."""

from __future__ import annotations

from metal4conv.cli import main

if __name__ == "__main__":
    main()
