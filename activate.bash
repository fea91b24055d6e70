# Source this for a shell in which ros2, python and the resfit packages are found:
#   source activate.bash
_resfit_root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ ! -f "$_resfit_root/install/setup.bash" ]; then
  echo "resfit: not set up yet; run $_resfit_root/scripts/setup.sh" >&2
  return 1
fi
for _distribution in ${ROS_DISTRO:-} kilted jazzy; do
  if [ -f "/opt/ros/$_distribution/setup.bash" ]; then source "/opt/ros/$_distribution/setup.bash"; break; fi
done
export PATH=$_resfit_root/.venv/bin:$PATH
if ! command -v ros2 >/dev/null; then
  # No ROS 2 on this machine: the wheels are an ament prefix, the fallback stands in for launch and ros2cli.
  export AMENT_PREFIX_PATH=$_resfit_root/.venv${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}
  export PYTHONPATH=$_resfit_root/ros2_fallback${PYTHONPATH:+:$PYTHONPATH}
  export PATH=$_resfit_root/ros2_fallback/bin:$PATH
fi
source "$_resfit_root/install/setup.bash"
export MUJOCO_GL=${MUJOCO_GL:-egl} HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}
# Fast DDS's shared memory has locks that a process killed while holding one never gives back: the
# others then wait in publish() for ever. Sockets know no such state.
export FASTDDS_BUILTIN_TRANSPORTS=${FASTDDS_BUILTIN_TRANSPORTS:-UDPv4}
# A robot lab's network carries other graphs: stay on this machine unless told otherwise.
export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}
unset _resfit_root _distribution
