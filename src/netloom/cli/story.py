"""How the demo tells: steps, notes, and commands with what they print."""

from __future__ import annotations

import textwrap
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from netloom.lab.place import Place

WIDTH = 92


@dataclass
class Story:
    """Prints: steps, notes, commands with their output. ``live`` may redraw what it has printed."""

    live: bool
    coloured: bool
    pause: bool = False
    began: float = field(default_factory=time.monotonic)
    steps: int = 0
    far: str = ""
    shown: list[str] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        """Print one line."""
        click.echo(text, color=None if self.coloured else False)

    def step(self, title: str) -> None:
        """Begin a step."""
        if self.pause and self.steps:
            click.pause("\n   … any key goes on", err=True)
        self.steps += 1
        passed = f"{time.monotonic() - self.began:.1f} s"
        rule = "─" * (WIDTH - len(title) - len(passed) - 6)
        self.say()
        head = click.style(f"{self.steps}  {title}", bold=True, fg="cyan")
        self.say(f"{head} {click.style(f'{rule} {passed}', dim=True)}")

    def note(self, text: str) -> None:
        """Print an explanation below what it explains."""
        for number, line in enumerate(textwrap.wrap(text, WIDTH - 5)):
            self.say("   " + click.style(("→ " if number == 0 else "  ") + line, dim=True))

    def shell(self, place: Place, command: str) -> str:
        """Run a command as a person would, show it and what it prints; return the output."""
        prompt = click.style(f"{place.name}$", fg="green")
        self.say(f"   {prompt} {click.style(command, bold=True)}")
        output = place.exec(command.split())
        for line in output.splitlines():
            self.say(f"   {line}".rstrip())
        return output

    def learned(self, text: str) -> None:
        """Remember a line for the summary."""
        self.shown.append(text)
