#!/usr/bin/env bash
# A published port: a container's web server, reached by its host's address.
set -euo pipefail
PATH="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin:$PATH"
export NETLOOM_LAB=${NETLOOM_LAB:-example}
say() { printf '\n== %s\n' "$*"; }

netloom lab up --hosts 2 --preset flannel
trap 'netloom lab down' EXIT
netloom lab run h1 web -p 8080:80 -- python3 -m http.server 80

say "From h2, by the address of h1"
fetch='
import sys, time, urllib.request
for attempt in range(300):
    try:
        answer = urllib.request.urlopen(sys.argv[1], timeout=5)
        break
    except OSError:
        time.sleep(0.1)  # the web server is still starting
print(answer.status, answer.headers["Server"])'
netloom lab exec h2 -- python3 -c "$fetch" http://192.168.31.62:8080/

say "The rules that do it are in one table, which is all ours"
netloom lab exec h1 -- nft list table inet netloom
