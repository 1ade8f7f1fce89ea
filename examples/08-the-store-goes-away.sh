#!/usr/bin/env bash
# The datastore is away: traffic goes on, containers can still be attached, status says so.
set -euo pipefail
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export NETLOOM_LAB=${NETLOOM_LAB:-example}
say() { printf '\n== %s\n' "$*"; }

netloom lab up --hosts 2 --preset flannel
trap 'netloom lab down' EXIT
netloom lab run h1 a
netloom lab run h2 b

say "The store goes"
netloom lab fault store stop-store
well() { netloom lab exec h1 -- netloom status >/dev/null; }
await() { timeout 60 bash -c "$(declare -f well); until $1; do sleep 0.1; done"; }
await '! well'
netloom lab exec h1 -- netloom status || echo "exit code $?"

say "A container that starts meanwhile gets its address from h1's own block"
netloom lab run h1 late

say "The store is back"
netloom lab fault store start-store
await well
netloom lab exec h1 -- netloom status
netloom ping --lab "$NETLOOM_LAB"
