#!/usr/bin/env bash
# Two Docker engines become one network, by flannel's key in etcd and Docker's own daemon.json.
set -euo pipefail
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export NETLOOM_LAB=${NETLOOM_LAB:-example} ETCDCTL_API=3
export FLANNEL_ETCD_ENDPOINTS=http://192.168.17.10:2379 FLANNEL_ETCD_PREFIX=/atomic.io/network
say() { printf '\n== %s\n' "$*"; }
on() { local host=$1 && shift && netloom lab exec "$host" -- "$@"; }
await() { timeout 60 bash -c "$(declare -f on); until $* >/dev/null 2>&1; do sleep 0.1; done"; }

files=$(mktemp -d)
netloom lab up scene5 --bare
trap 'netloom lab down; rm -r "$files"' EXIT
netloom lab docker node1 node2

say "etcd on node1, and flannel's key in it"
on node1 etcd --data-dir "$files/etcd" --listen-client-urls "$FLANNEL_ETCD_ENDPOINTS" \
    --advertise-client-urls "$FLANNEL_ETCD_ENDPOINTS" >"$files/etcd.log" 2>&1 &
await on node1 etcdctl --endpoints "$FLANNEL_ETCD_ENDPOINTS" endpoint health
on node1 etcdctl --endpoints "$FLANNEL_ETCD_ENDPOINTS" put \
    "$FLANNEL_ETCD_PREFIX/config" '{ "Network": "172.20.0.0/16" }'

say "flanneld on both nodes: ours"
for node in node1 node2; do
    on "$node" flanneld -ip-masq >"$files/$node.log" 2>&1 &
    await on "$node" netloom status
done
# shellcheck disable=SC2016
on node1 sh -c 'cat "$NETLOOM_SUBNET_FILE"' # in /run/flannel on a real host

say "Docker takes the block; what its settings said before stays"
for node in node1 node2; do
    on "$node" netloom docker-opts --write
done
netloom lab docker node1 node2 # systemctl restart docker
on node1 ip -br address show docker0
on node1 ip -br address show flannel0

say "Docker drops what is forwarded; the jump to our chain stands before that"
on node1 iptables -S FORWARD
on node1 iptables -S DOCKER-USER
on node1 iptables -S NETLOOM-FORWARD

say "A container on each node"
on node2 docker run --detach --init --name web busybox sleep 600
address=$(on node2 docker inspect -f '{{.NetworkSettings.IPAddress}}' web)
on node1 docker run --rm busybox ping -c 2 "$address" | tee "$files/ping"
grep -q ' 0% packet loss' "$files/ping"
