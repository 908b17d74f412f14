"""The command `permit-router`."""

import typer

from litellm_plugin.cli.check import check
from litellm_plugin.cli.demo import demo
from litellm_plugin.cli.endpoints import endpoints
from litellm_plugin.cli.permit import permit
from litellm_plugin.cli.report import report

# A traceback with local variables could show a permit or a key.
app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False, help=__doc__
)
app.command()(demo)
app.command()(check)
app.command()(endpoints)
app.add_typer(permit, name="permit")
app.add_typer(report, name="report")


@app.callback()
def _commands() -> None:
    """Permit-aware routing for LiteLLM Proxy."""


def main() -> None:
    """Runs the command line."""
    app()
