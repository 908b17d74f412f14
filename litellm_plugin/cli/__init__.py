"""The command `permit-router`."""

import typer

from litellm_plugin.cli.demo import demo

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.command()(demo)


@app.callback()
def _commands() -> None:
    """Permit-aware routing for LiteLLM Proxy."""


def main() -> None:
    """Runs the command line."""
    app()
