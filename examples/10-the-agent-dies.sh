#!/usr/bin/env bash
# The agent is killed and started anew under a running ping; nothing is lost.
set -euo pipefail
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export NETLOOM_LAB=${NETLOOM_LAB:-example}
say() { printf '\n== %s\n' "$*"; }

netloom lab up --hosts 2 --preset flannel
trap 'netloom lab down' EXIT
netloom lab run h1 a
address=$(netloom lab run h2 b | awk -F'[ /]+' '{print $3}')

result=$(mktemp)
netloom lab exec h1/a -- ping -q -i 0.005 -c 600 "$address" >"$result" &
say "kill -9, on both hosts"
netloom lab fault h1 kill-agent
netloom lab fault h2 kill-agent
if netloom lab exec h1 -- netloom status; then exit 1; fi

say "Started again"
netloom lab fault h1 start-agent
netloom lab fault h2 start-agent
wait $!
cat "$result"
awk '/transmitted/ {exit !($1 - $4 <= 1)}' "$result" # the last may still be on its way
rm "$result"
netloom lab exec h1 -- netloom status
