"""``python -m bench``: every figure, one after the other; or those named."""

from __future__ import annotations

import platform
import sys

from bench import bgp, bgp_crowd, change, cni, datapath, packet, scale, start

_PARTS = {
    "datapath": datapath.main,
    "packet": packet.main,
    "cni": cni.main,
    "start": start.main,
    "scale": scale.main,
    "change": change.main,
    "bgp": bgp.main,
    "bgp-crowd": bgp_crowd.main,
}


def main() -> None:
    """Run the parts named on the command line, or all."""
    wanted = sys.argv[1:] or list(_PARTS)
    unknown = [name for name in wanted if name not in _PARTS]
    if unknown:
        sys.exit(f"bench: unknown {unknown}; there are: {', '.join(_PARTS)}")
    print(f"kernel {platform.release()}, Python {platform.python_version()}; medians, ± quartiles")
    for name in wanted:
        print(f"\n{name}", flush=True)
        _PARTS[name]()


if __name__ == "__main__":
    main()
