#!/usr/bin/env bash
# Format, lint, types, tests; run in an activated shell (./resfit test does that).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Never mix with another graph on this machine.
export ROS_DOMAIN_ID=${ROS_DOMAIN_ID:-$((RANDOM % 100 + 1))}
ruff format --check .
ruff check .
mypy
[ $# -eq 0 ] || exec python -m pytest "$@"
# The algorithms' tests share nothing; tests of nodes and of the graph would hear each other.
python -m pytest -n "${RESFIT_TEST_PROCESSES:-2}" --dist loadfile src/resfit_rl
exec python -m pytest --ignore=src/resfit_rl
