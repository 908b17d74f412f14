"""The command `permit-router`."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


def main() -> None:
    """Runs the command line."""
    app()
