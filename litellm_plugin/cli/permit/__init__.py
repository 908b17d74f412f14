"""The commands `permit-router permit`: keys, mint and inspect."""

import typer

from litellm_plugin.cli.permit.inspection import inspect
from litellm_plugin.cli.permit.key_pair import keys
from litellm_plugin.cli.permit.minting import mint

permit = typer.Typer(no_args_is_help=True, help="Makes keys and development permits, and explains permits.")
permit.command()(keys)
permit.command()(mint)
permit.command()(inspect)

__all__ = ["permit"]
