#!/usr/bin/env bash
# bash scripts/test.sh [arguments of pytest]
# Installs what is missing, then checks style, types and import direction and runs the tests: under 10 minutes on
# 2 CPU cores after the install. Every check runs, and any that fails makes the exit code 1.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

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
