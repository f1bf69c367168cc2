"""Fixtures of the command line, for what is deployed with it."""

from tests.cli.conftest import screen

__all__ = ["screen"]
