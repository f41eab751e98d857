"""Lets `python -m xstilts.cli` run the same command line as `xstilts`."""

from xstilts.cli import main

if __name__ == "__main__":
    main()
