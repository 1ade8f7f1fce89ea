#!/usr/bin/env bash
# Another hand breaks the kernel's tables; the agent puts them right.
set -euo pipefail
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export NETLOOM_LAB=${NETLOOM_LAB:-example}
say() { printf '\n== %s\n' "$*"; }

netloom lab up --hosts 2 --preset flannel
trap 'netloom lab down' EXIT
on_h1() { netloom lab exec h1 -- "$@"; }
repaired() { on_h1 netloom plan --check >/dev/null; }
await_repair() { timeout 60 bash -c "until $(declare -f on_h1 repaired); repaired; do sleep 0.1; done"; }

say "The route goes"
on_h1 ip route show proto 78
on_h1 ip route flush proto 78
await_repair
on_h1 ip route show proto 78

say "The forwarding entry goes"
on_h1 bridge fdb show dev flannel.1
mac=$(on_h1 bridge fdb show dev flannel.1 | awk '/dst/ {print $1; exit}')
on_h1 bridge fdb del "$mac" dev flannel.1
await_repair
on_h1 bridge fdb show dev flannel.1

say "The whole device goes, and with it all that hung on it"
on_h1 ip link delete flannel.1
await_repair
on_h1 ip -brief link show flannel.1
on_h1 ip route show proto 78

say "What the agent says of it"
on_h1 netloom status
