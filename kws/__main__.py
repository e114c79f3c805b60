"""`python -m kws` is the command `kws`."""

from kws.cli import main

if __name__ == "__main__":
    main()
