"""Command line. Knows every part below it and is known by none.

`main` is the console script `appliance`. A subcommand is a module of this package;
`commands` lists them.
"""

from appliance.cli.dispatch import main

__all__ = ["main"]
