#!/usr/bin/env bash
# The backend changes from vxlan to host-gw under a running ping; nothing is lost.
set -euo pipefail
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export NETLOOM_LAB=${NETLOOM_LAB:-example}
say() { printf '\n== %s\n' "$*"; }

netloom lab up --hosts 2 --preset flannel
trap 'netloom lab down' EXIT
netloom lab run h1 a
address=$(netloom lab run h2 b | awk -F'[ /]+' '{print $3}')

say "vxlan: the route leads into the tunnel"
netloom lab exec h1 -- ip route show proto 78

say "Switching while a ping runs, every 10 ms"
result=$(mktemp)
netloom lab exec h1/a -- ping -q -i 0.01 -c 300 "$address" >"$result" &
netloom lab exec h1 -- netloom network set default backend=host-gw
wait $!
cat "$result"
awk '/transmitted/ {exit !($1 - $4 <= 1)}' "$result" # the last may still be on its way
rm "$result"

say "host-gw: the route leads to the other host; the tunnel goes when no host needs it any more"
timeout 60 bash -c 'while netloom lab exec h1 -- ip link show flannel.1 2>/dev/null; do sleep 0.1; done'
netloom lab exec h1 -- ip route show proto 78
netloom ping --lab "$NETLOOM_LAB"
netloom lab exec h1 -- netloom network show default
