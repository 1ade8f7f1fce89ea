#!/usr/bin/env bash
# Two hosts, a container on each: the ping, and the three tables that carry it.
set -euo pipefail
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export NETLOOM_LAB=${NETLOOM_LAB:-example}
say() { printf '\n== %s\n' "$*"; }

netloom lab up --hosts 2 --preset flannel
trap 'netloom lab down' EXIT
netloom lab run h1 web
netloom lab run h2 client

say "Who reaches whom"
netloom ping --lab "$NETLOOM_LAB"

say "h1: the route to h2's block, and who is behind it"
netloom lab exec h1 -- ip route show proto 78
netloom lab exec h1 -- ip neighbour show dev flannel.1
netloom lab exec h1 -- bridge fdb show dev flannel.1

say "h1: what a container engine is told of its block (/run/flannel/subnet.env beside flannel's keys)"
# shellcheck disable=SC2016
netloom lab exec h1 -- sh -c 'cat "$NETLOOM_SUBNET_FILE"'

say "The container knows only its gateway"
netloom lab exec h2/client -- ip route

say "The same, as the agent of h1 sees it"
netloom lab exec h1 -- netloom status
