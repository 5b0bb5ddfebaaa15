"""`python -m trivec` is the `trivec` command."""

from trivec.cli import main

if __name__ == "__main__":
    main()
