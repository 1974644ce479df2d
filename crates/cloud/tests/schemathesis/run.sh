#!/usr/bin/env bash
# Drives the API with what its own description says, and with what it says must not be: schemathesis against a backend
# of its own. Needs Python with venv and pip. Usage: run.sh PATH-OF-MSE-CLOUD [EXAMPLES]
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
binary=$(realpath "$1") examples=${2:-25}
work=$(mktemp -d)
backend=
trap '[[ -z $backend ]] || kill "$backend" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==4.*"
cat >"$work/cloud.toml" <<'TOML'
[limits]
requests_per_second = 100000.0
burst = 100000.0
failures_per_second = 100000.0
failures_burst = 100000.0
projects_per_user = 100000
TOML
"$binary" serve --config "$work/cloud.toml" --data "$work/data" --listen 127.0.0.1:0 --router 127.0.0.1:0 >"$work/url" 2>"$work/log" &
backend=$!
for _ in $(seq 300); do
    [[ -s $work/url ]] && break
    kill -0 "$backend" || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
url=$(<"$work/url")
token=$(<"$work/data/first-token")
# Ending one's own token would leave the rest of the run without one.
cd "$work"
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 SCHEMATHESIS_HOOKS=hooks \
    "$work/venv/bin/schemathesis" --config-file "$here/schemathesis.toml" run "$url/v1/openapi.json" --tls-verify "$work/data/ca.pem" \
    --header "Authorization: Bearer $token" --max-examples "$examples" --seed 1 \
    --exclude-path-regex '^/v1/tokens/' --checks all
