"""``netloom agent``: run the agent of this host in the foreground; see ``foreground``."""

from __future__ import annotations

import click

from netloom.cli import foreground
from netloom.cli.options import with_settings
from netloom.cli.settings import Settings


@click.command(
    "agent",
    epilog="""\b
Example:
  netloom agent --datastore sqlite:///var/lib/netloom/cluster.db
""",
)
@with_settings()
def agent(settings: Settings) -> None:
    """Run the agent of this host in the foreground.

    It registers the host, claims its blocks, keeps the kernel true and serves the local API on a
    unix socket. Ending it leaves the data path standing.
    """
    foreground.run(settings)
