#!/usr/bin/env bash
# Calico's way: no bridge, a /32 in the container, blocks of /26 on demand, told by BGP.
set -euo pipefail
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export NETLOOM_LAB=${NETLOOM_LAB:-example}
say() { printf '\n== %s\n' "$*"; }

netloom lab up --hosts 2 --preset calico
trap 'netloom lab down' EXIT
netloom lab run h1 a
netloom lab run h2 b

say "Inside: one address, and a gateway that stands on no interface"
netloom lab exec h1/a -- ip -brief address show dev eth0
netloom lab exec h1/a -- ip route
netloom lab exec h1/a -- ip neighbour

say "On the host: a route for each container, one for each block of the others"
# BGP sessions take a second or two to come up.
for host in h1 h2; do
    netloom lab exec "$host" -- timeout 60 sh -c 'until ip route | grep -q "via .* proto bird"; do sleep 0.1; done'
done
netloom lab exec h1 -- ip route
netloom lab exec h1 -- ip -brief link show type veth

say "Who reaches whom"
netloom ping --lab "$NETLOOM_LAB"
