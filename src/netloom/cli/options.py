"""What several verbs share: options of settings and output, and the form of examples."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from netloom.cli.render import OUTPUTS
from netloom.cli.settings import BY_NAME, DEFAULT_CONFIG, SETTINGS, load_settings

Command = TypeVar("Command", bound=Callable[..., Any])

#: ``-o``: the form in which facts are printed.
output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(OUTPUTS),
    default="table",
    show_default=True,
    help="The form in which facts are printed.",
)


def example(*lines: str) -> str:
    """Return a help text's end that click leaves in lines."""
    return "\n".join(["\b", "Example:", *(f"  {line}" for line in lines)])


def with_settings(*names: str) -> Callable[[Command], Command]:
    """Give a command ``--config`` and the flags of ``names`` (none: of all settings).

    The command gets one parameter ``settings`` in their place.
    """
    chosen = [BY_NAME[name] for name in names] or list(SETTINGS)

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def command(*args: Any, config: str | None, **kwargs: Any) -> Any:
            flags = {setting.name: kwargs.pop(setting.name) for setting in chosen}
            settings = load_settings(flags, os.environ, config)
            return function(*args, settings=settings, **kwargs)

        result: Any = command
        for setting in reversed(chosen):
            text = f"{setting.help}  [env: {setting.env}]"
            result = click.option(setting.flag, setting.name, metavar=setting.metavar, help=text)(
                result
            )
        text = f"Read settings from this file, else {DEFAULT_CONFIG}.  [env: NETLOOM_CONFIG]"
        typed: Command = click.option("--config", metavar="PATH", help=text)(result)
        return typed

    return decorate
