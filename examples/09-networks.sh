#!/usr/bin/env bash
# Networks in the datastore: created, shown, changed, refused, deleted.
set -euo pipefail
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export NETLOOM_LAB=${NETLOOM_LAB:-example}
say() { printf '\n== %s\n' "$*"; }

netloom lab up --hosts 1 --preset flannel
trap 'netloom lab down' EXIT
net() { netloom lab exec h1 -- netloom network "$@"; }

say "A second network beside the first"
net create red --pool 10.10.0.0/16 --backend host-gw --attach routed --block-size 26
net list

say "What cannot be is refused before anything is written, with the remedy"
if net create green --pool 10.10.128.0/17; then exit 1; fi
if net create green --pool 10.20.0.0/16 --backend vxlam; then exit 1; fi

say "A definition as a file, changed and shown again"
net show red -o yaml
net set red pools[0].natOutgoing=false mtu=1400
net show red

say "Gone again"
net delete red
net list
