"""What a verb is given of resources: the files they stand in, and the namespace that is meant."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from netloom.cli.resources import files
from netloom.core.resources.contract import Kind

Command = TypeVar("Command", bound=Callable[..., Any])

namespace_option = click.option(
    "-n", "--namespace", default="", metavar="NAME", help="For kinds that are in one."
)


@dataclass(frozen=True)
class Given:
    """The files and folders named by ``-f``, and how to read them."""

    filenames: tuple[str, ...]
    recursive: bool
    skip_empty: bool
    namespace: str

    def __bool__(self) -> bool:
        """Tell whether any file is named."""
        return bool(self.filenames)

    def documents(self) -> list[files.Document]:
        """Read them. Raises InvalidConfig, and NotPermitted for a file that may not be read."""
        return files.read(
            self.filenames,
            namespace=self.namespace,
            recursive=self.recursive,
            skip_empty=self.skip_empty,
        )

    def inside(self, kind: Kind) -> str:
        """Return the namespace of what a user calls by kind and name."""
        return namespace_of(kind, self.namespace)


def namespace_of(kind: Kind, asked: str) -> str:
    """Return the namespace that is meant where ``asked`` is what ``--namespace`` said."""
    return (asked or files.DEFAULT_NAMESPACE) if kind.namespaced else ""


def with_files(*, required: bool) -> Callable[[Command], Command]:
    """Give a command ``--filename`` and what goes with it: one parameter ``given``, a Given."""

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def command(
            *args: Any,
            filenames: tuple[str, ...],
            recursive: bool,
            skip_empty: bool,
            namespace: str,
            **kwargs: Any,
        ) -> Any:
            given = Given(filenames, recursive, skip_empty, namespace)
            return function(*args, given=given, **kwargs)

        result: Any = command
        for option in (
            namespace_option,
            click.option(
                "--skip-empty",
                is_flag=True,
                help="Files and folders without any resource are well.",
            ),
            click.option("-R", "--recursive", is_flag=True, help="Also folders in folders."),
            click.option(
                "-f",
                "--filename",
                "filenames",
                multiple=True,
                required=required,
                metavar="FILE",
                help="A file or folder, '-' for standard input; may be repeated.",
            ),
        ):
            result = option(result)
        return result  # type: ignore[no-any-return]

    return decorate
