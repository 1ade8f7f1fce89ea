"""The table of kinds. Adding one: its check in a module here, a line in the table, its tests."""

from __future__ import annotations

from netloom.core.resources import bgp, bgp_filter
from netloom.core.resources.contract import Kind
from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("BGPConfiguration", "bgpConfigurations", bgp.check_configuration, ("bgpconfig",)),
        Kind("BGPPeer", "bgpPeers", bgp.check_peer),
        Kind("BGPFilter", "bgpFilters", bgp_filter.check_filter),
    )
}


def kind_called(word: str) -> Kind:
    """Return the kind that a person calls ``word``. Raises InvalidConfig with the nearest name."""
    for kind in KINDS.values():
        if kind.called(word):
            return kind
    raise InvalidConfig(
        f"kind: there is no kind of resource called {word!r}",
        field="kind",
        value=word,
        hint=nearest(word, KINDS),
    )
