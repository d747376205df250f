#!/usr/bin/env bash
# bash scripts/test.sh [arguments of pytest]
# Installs what is missing (as root a browser too), then checks style, types and import direction and runs the
# tests: under 10 minutes on 2 CPU cores after the install. Every check runs, and any that fails makes the exit
# code 1.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# The report's test looks at its page in a browser. Nothing else needs one, so setup.sh does not bring it.
has_browser() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
} >/dev/null

if ! has_browser && can_install; then
    say "installing Chromium"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } >&2 ||
        say "no Chromium could be installed; the report's test will say so"
fi

failed=()
check() {
    echo "== $*"
    "$VENV/bin/$1" "${@:2}" || failed+=("$1")
}

check ruff check .
check ruff format --check .
check basedpyright
check lint-imports
check pytest "$@"
if [ "${#failed[@]}" -gt 0 ]; then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
