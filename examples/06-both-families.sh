#!/usr/bin/env bash
# IPv4 and IPv6 side by side, over one underlay.
set -euo pipefail
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export NETLOOM_LAB=${NETLOOM_LAB:-example}
say() { printf '\n== %s\n' "$*"; }

netloom lab up dualstack
trap 'netloom lab down' EXIT
netloom lab run h1 a
netloom lab run h2 b

say "Two addresses, two gateways"
netloom lab exec h1/a -- ip -brief address show dev eth0
netloom lab exec h1/a -- ip -4 route
netloom lab exec h1/a -- ip -6 route show default

say "Routes of both families on h1"
netloom lab exec h1 -- ip -4 route show proto 78
netloom lab exec h1 -- ip -6 route show proto 78

say "Who reaches whom, in each family"
netloom ping --lab "$NETLOOM_LAB"
