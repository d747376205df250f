#!/usr/bin/env bash
# Everything that the README's two commands need, in .tools/ and .venv/; both source this file, and it may be run
# by itself. Afterwards .venv holds the lock file's packages, MUJOCO_GL is set, and the folder is the repository.
# The first run downloads about 4 GB; later ones find the stamp in .venv and take a second.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
TOOLS="$PWD/.tools"
VENV="$PWD/.venv"
OLDEST_UV=0.8
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH
export UV_PROJECT_ENVIRONMENT="$VENV"
if [ ! -w "${HOME:-/nonexistent}" ]; then
    export UV_CACHE_DIR="$TOOLS/cache"
fi

say() {
    echo "setup: $*" >&2
}

stop() {
    say "$@"
    exit 1
}

can_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

# --- uv -------------------------------------------------------------------------------------------------------

is_uv() {
    local version
    version="$("$1" --version 2>/dev/null | cut -d' ' -f2)" || return 1
    [ -n "$version" ] && [ "$(printf '%s\n' "$OLDEST_UV" "$version" | sort -V | head -n1)" = "$OLDEST_UV" ]
}

find_uv() {
    local candidate
    for candidate in "$TOOLS/uv/bin/uv" uv; do
        if is_uv "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# A virtual environment where Python can make one, else a plain folder that pip fills.
install_uv() {
    local python
    for python in $(type -aP python3 python || true); do
        rm -rf "$TOOLS/uv"
        if "$python" -m venv "$TOOLS/uv" >/dev/null 2>&1; then
            "$TOOLS/uv/bin/python" -m pip install --quiet uv >&2 && return
        elif "$python" -m pip --version >/dev/null 2>&1; then
            "$python" -m pip install --quiet --target "$TOOLS/uv" uv >&2 && return
        fi
    done
    return 1
}

bring_uv() {
    find_uv && return
    say "bringing uv into $TOOLS/uv"
    if ! install_uv && can_install; then
        { apt-get update && apt-get install -y python3-venv; } >&2
        install_uv || true
    fi
    find_uv || stop "no way to install uv; as root: apt-get update && apt-get install -y python3-venv"
}

# --- Python ---------------------------------------------------------------------------------------------------

# Prints the first Python 3.12 or 3.13 that runs. A name on PATH can be a pyenv shim that refuses to, with the
# interpreter itself in pyenv's folder beside it.
find_python() {
    local candidate shims
    shims="$(type -aP python3.12 python3.13 python3 | sed -n 's|/shims/[^/]*$|/versions|p' | sort -u)"
    for candidate in $(type -aP python3.12 python3.13 python3) \
        $(ls -d $(for folder in $shims "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions"; do
            echo "$folder"/3.12*/bin/python "$folder"/3.13*/bin/python
        done) 2>/dev/null); do
        if "$candidate" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# --- packages -------------------------------------------------------------------------------------------------

stamp() {
    echo "$PWD $("$VENV/bin/python" --version) $(cat uv.lock pyproject.toml | cksum)"
}

is_ready() {
    [ -x "$VENV/bin/embodied" ] && [ "$(cat "$VENV/setup.stamp" 2>/dev/null)" = "$(stamp)" ]
}

sync_packages() {
    local uv python
    uv="$(bring_uv)"
    if python="$(find_python)"; then
        say "installing packages into $VENV for $("$python" --version)"
        "$uv" sync --frozen --compile-bytecode --python "$python" --no-python-downloads
    else
        say "no Python 3.12 or 3.13 found; uv downloads one"
        "$uv" sync --frozen --compile-bytecode --python 3.12 ||
            stop "found no Python 3.12 or 3.13, and uv did not manage to bring one with the packages (see above)"
    fi
    stamp >"$VENV/setup.stamp"
}

# --- rendering ------------------------------------------------------------------------------------------------

rendering_backend() {
    "$VENV/bin/python" -c 'import sys; from embodied.rendering_backend import main; sys.exit(main())' "$@"
}

bring_renderer() {
    say "looking for a way to render off screen"
    rendering_backend && return
    can_install || exit 1
    say "installing system packages"
    DEBIAN_FRONTEND=noninteractive bash -c "$(rendering_backend --install-line)" >&2
    rendering_backend
}

is_ready || sync_packages
[ -f "$VENV/renderer.env" ] || bring_renderer
if [ -z "${MUJOCO_GL:-}" ]; then
    . "$VENV/renderer.env"
fi
