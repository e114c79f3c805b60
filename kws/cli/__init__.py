"""The command line: parsing and messages only."""

from kws.cli.app import app, main

__all__ = ["app", "main"]
