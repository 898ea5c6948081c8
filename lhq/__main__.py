"""`python -m lhq` is the `lhq` command."""

from lhq.cli import main

if __name__ == "__main__":
    main()
