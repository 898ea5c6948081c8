"""`python -m alis` is the `alis` command."""

from alis.cli import main

if __name__ == "__main__":
    main()
