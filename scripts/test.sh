#!/usr/bin/env bash
# Format, lint, types, tests; run in an activated shell (./resfit test does that).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Never mix with another graph on this machine.
export ROS_DOMAIN_ID=${ROS_DOMAIN_ID:-$((RANDOM % 100 + 1))}
ruff format --check .
ruff check .
mypy
exec python -m pytest "$@"
