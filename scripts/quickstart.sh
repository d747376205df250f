#!/usr/bin/env bash
# bash scripts/quickstart.sh [flags of `embodied quickstart`]
# Installs what is missing, then collects demonstrations, trains a policy and evaluates it: about 15 minutes on
# 2 CPU cores after the install. Expect a mean success of 85 % or more over three tasks.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
exec "$VENV/bin/embodied" quickstart "$@"
