"""``calicoctl version``: of this program, and of the cluster."""

from __future__ import annotations

import click

from netloom import __version__
from netloom.cli.cluster import opened
from netloom.cli.options import with_settings
from netloom.cli.settings import Settings
from netloom.core.resources.information import Information


@click.command(epilog="Example: calicoctl version")
@click.option("--client", is_flag=True, help="Of this program alone; no datastore is asked.")
@with_settings("datastore")
def version(client: bool, settings: Settings) -> None:
    """Show the version of this program and of the cluster."""
    click.echo(f"Client Version:    netloom-{__version__}")
    if client:
        return
    with opened(settings) as cluster:
        (shown,) = Information().shown(cluster.picture())
    click.echo(f"Cluster Version:   {shown.spec['calicoVersion']}")
    click.echo(f"Cluster Type:      {shown.spec['clusterType']}")
