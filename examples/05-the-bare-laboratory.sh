#!/usr/bin/env bash
# The bare laboratory: two nodes joined by hand, as in the tutorials, then by agents over etcd.
set -euo pipefail
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export NETLOOM_LAB=${NETLOOM_LAB:-example}
say() { printf '\n== %s\n' "$*"; }

netloom lab up scene4 --bare --store etcd
trap 'netloom lab down' EXIT

say "By hand: a bridge, a container and a route on each node"
join() { # node, block's prefix, the other's prefix, the other node
    local run=(netloom lab exec "$1" --)
    "${run[@]}" ip link add cni0 type bridge
    "${run[@]}" ip address add "$2.1/24" dev cni0
    "${run[@]}" ip link set cni0 up
    "${run[@]}" sysctl -q -w net.ipv4.ip_forward=1
    "${run[@]}" ip route add "$3.0/24" via "$4"
    "${run[@]}" ip route
}
join node1 1.1.1 1.1.2 10.0.12.7
join node2 1.1.2 1.1.1 10.0.12.11
netloom lab exec node1 -- ping -c 2 -I 1.1.1.1 1.1.2.1

say "Everything by hand goes; the agents do it by themselves"
for node in node1 node2; do
    netloom lab exec "$node" -- ip link delete cni0
    netloom lab exec "$node" -- ip route del "$(netloom lab exec "$node" -- ip route | awk '/via 10.0.12.(7|11)/ {print $1}')"
    netloom lab fault "$node" start-agent
done
netloom lab exec node1 -- timeout 60 sh -c 'until ip route show proto 78 | grep -q .; do sleep 0.1; done'

say "What they told each other through etcd"
endpoint=$(netloom lab list -o json --name "$NETLOOM_LAB" | grep -o '[0-9.]*:2379' | head -1)
export ETCDCTL_API=3
netloom lab exec node1 -- etcdctl --endpoints "$endpoint" get --prefix /netloom/v1/cluster/ --keys-only
netloom lab exec node1 -- ip route show proto 78

say "A container on each node"
netloom lab run node1 c1
netloom lab run node2 c2
netloom ping --lab "$NETLOOM_LAB"
