"""`harness completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from harness.cli.output import tell


@click.command(epilog='Example: eval "$(harness completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the code that makes SHELL complete the harness's verbs, options and board names."""
    completer = get_completion_class(shell)
    assert completer is not None
    tell(completer(context.find_root().command, {}, "harness", "_HARNESS_COMPLETE").source())
