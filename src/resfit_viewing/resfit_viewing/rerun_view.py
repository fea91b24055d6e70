"""Node `rerun_view`: the graph in Rerun, live or as an .rrd file."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import WrenchStamped
from sensor_msgs.msg import Image, JointState

from resfit_interfaces.msg import (
    ActionCommand,
    EpisodeState,
    ExecutedAction,
    LearnerStatus,
    PrivilegedState,
    SafetyStatus,
)
from resfit_rl.tasks import get_task
from resfit_ros import qos
from resfit_ros.conversions import (
    ConversionError,
    image_to_array,
    joint_positions,
    pose_to_array,
    stamp_to_ns,
    wrench_to_array,
)
from resfit_ros.parameters import ConfigurationError, declare
from resfit_viewing.arrows import StepArrows
from resfit_viewing.drawing import declare_drawing
from resfit_viewing.episode_names import OUTCOMES, STATES
from resfit_viewing.observer import Observer, run_observer

APPLICATION = "resfit"


class RerunView(Observer):
    """Logs what it hears at the time that it is of."""

    def __init__(self) -> None:
        super().__init__("rerun_view")
        self._task = get_task(declare(self, "task", str, "task, for example square"))
        to = declare(
            self,
            "to",
            "spawn",
            "spawn: open Rerun's viewer here; rerun+http://HOST:9876/proxy: a viewer there; "
            "a path that ends in .rrd: a file",
        )
        open_ = _opener(to)
        self._drawing = declare_drawing(self, self._task)
        self._robot = self._drawing.robot
        open_()
        from resfit_viewing.rerun_recording import RerunRecording

        self._recording = RerunRecording(self._robot, self._task.cameras)
        self._objects: dict[str, np.ndarray] = {}
        self._wrenches: dict[str, np.ndarray] = {}
        self._lines = dict.fromkeys(("task", "episode", "outcomes", "policy", "learner"), "")
        self._lines["task"] = self._task.name
        self._stop = "no verdict of the safety monitor yet"
        self._state_shown: tuple[dict[str, str], str] | None = None
        self._episode: tuple[int, int] = (0, EpisodeState.IDLE)
        self._phase = ""
        self._heard = 0

        for camera in self._task.cameras:
            self._hear(
                Image, f"cameras/{camera}/image_raw", partial(self._on_image, camera), qos.SENSOR
            )
        for wrist in self._task.wrists:
            self._hear(
                WrenchStamped, f"wrenches/{wrist}", partial(self._on_wrench, wrist), qos.SENSOR
            )
        self._hear(PrivilegedState, "privileged_state", self._on_objects, qos.SENSOR)
        self._hear(JointState, "joint_states", self._on_joints, qos.SENSOR)
        self._hear(ActionCommand, "action_command", self._on_command, qos.EVENT)
        self._hear(ExecutedAction, "executed_action", self._on_executed, qos.EVENT)
        self._hear(SafetyStatus, "safety_status", self._on_safety, qos.EVENT)
        self._hear(EpisodeState, "episode_state", self._on_episode, qos.LATCHED)
        self._hear(LearnerStatus, "learner_status", self._on_learner, qos.LATCHED)
        self._to = to
        self.get_logger().info(f"{self._task.name} in Rerun: {to}")

    def _hear(self, kind: type, topic: str, handle: Callable[[Any], None], profile) -> None:
        def on_message(message: Any) -> None:
            self._heard += 1
            self._recording.at(stamp_to_ns(message.header.stamp))
            try:
                handle(message)
            except (ConversionError, ValueError) as error:
                self.report(f"{topic}: {error}")

        self.create_subscription(kind, topic, on_message, profile)

    # -- what comes in ----------------------------------------------------------------------------

    def _on_image(self, camera: str, message: Image) -> None:
        self._recording.picture(camera, image_to_array(message, camera))

    def _on_wrench(self, wrist: str, message: WrenchStamped) -> None:
        self._wrenches[wrist] = wrench_to_array(message.wrench)

    def _on_objects(self, message: PrivilegedState) -> None:
        poses = zip(message.names, message.poses, strict=True)
        self._objects = {name: pose_to_array(pose) for name, pose in poses}

    def _on_joints(self, message: JointState) -> None:
        joints = joint_positions(message)
        self._drawing.actions.observe(stamp_to_ns(message.header.stamp), joints)
        self._robot.move(joints, self._objects)
        self._recording.robot()
        for wrist, wrench in self._wrenches.items():
            self._recording.arrows(self._drawing.wrench(wrist, wrench))

    def _on_command(self, message: ActionCommand) -> None:
        self._recording.values(
            residual__step=message.residual_norm, latency__command=1e3 * message.latency
        )
        self._lines["policy"] = f"version {message.policy_version}, step {message.step}"
        self._show(
            self._drawing.actions.command(
                stamp_to_ns(message.header.stamp),
                message.episode_id,
                message.step,
                message.base_action,
                message.action,
            )
        )

    def _on_executed(self, message: ExecutedAction) -> None:
        if message.fault:
            self._recording.event(f"step {message.step} refused: {message.reason}", "ERROR")
        self._show(
            self._drawing.actions.executed(
                message.episode_id, message.step, message.action, message.held
            )
        )

    def _show(self, step: StepArrows | None) -> None:
        if step is not None:
            self._recording.at(step.stamp)
            self._recording.arrows(step.arrows)

    def _on_safety(self, message: SafetyStatus) -> None:
        for wrist, *values in zip(
            message.wrist,
            message.force,
            message.max_force,
            message.torque,
            message.max_torque,
            strict=True,
        ):
            self._recording.wrench(wrist, tuple(values[:2]), tuple(values[2:]))
        stop = "" if message.motion_allowed else message.reason
        if stop != self._stop and stop:
            self._recording.event(f"safety: {stop}", "WARN")
        self._stop = stop
        self._show_state()

    def _on_episode(self, message: EpisodeState) -> None:
        state = STATES[message.state]
        if message.state == EpisodeState.FINISHED:
            state = f"{OUTCOMES[message.outcome]} after {message.end_step} steps"
        self._lines["episode"] = f"{message.episode_id}: {state}"
        self._lines["outcomes"] = (
            f"{message.episodes_succeeded} of {message.episodes_finished} succeeded, "
            f"{message.episodes_aborted} aborted"
        )
        if (message.episode_id, message.state) != self._episode:
            self._episode = (message.episode_id, message.state)
            reason = f" ({message.reason})" if message.reason else ""
            self._recording.event(f"episode {message.episode_id}: {state}{reason}")
        if message.state == EpisodeState.FINISHED and message.episodes_finished:
            self._recording.values(
                success__recent=message.recent_success_rate,
                success__all=message.episodes_succeeded / message.episodes_finished,
            )
        self._show_state()

    def _on_learner(self, message: LearnerStatus) -> None:
        self._recording.values(q__mean=message.q_mean, residual__batch=message.residual_norm)
        self._lines["learner"] = (
            f"{message.phase}, {message.updates} updates, {message.updates_owed} owed"
        )
        if message.phase != self._phase:
            self._phase = message.phase
            self._recording.event(f"learner: {message.phase}")
        self._show_state()

    def _show_state(self) -> None:
        shown = (dict(self._lines), self._stop)
        if shown != self._state_shown:
            self._state_shown = shown
            self._recording.state(self._lines, self._stop)

    def diagnostic_values(self) -> dict[str, object]:
        return {"messages": self._heard, "to": self._to}


def _opener(to: str) -> Callable[[], None]:
    """What opens the recording.

    Raises:
        ConfigurationError: rerun-sdk is not installed, or `to` cannot be had here.
    """
    try:
        from resfit_viewing import rerun_recording
    except ImportError:
        raise ConfigurationError(
            "viewer rerun: expected the package rerun-sdk, found none: pip install rerun-sdk"
        ) from None
    if to.endswith(".rrd"):
        return partial(rerun_recording.save, APPLICATION, Path(to))
    if to.startswith("rerun"):
        return partial(rerun_recording.connect, APPLICATION, to)
    if to != "spawn":
        raise ConfigurationError(
            "parameter 'to': expected spawn, an address rerun+http://HOST:9876/proxy or a path "
            f"that ends in .rrd, found '{to}'"
        )
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise ConfigurationError(
            "viewer rerun: expected a screen, found none: give a file (rerun_to:=watch.rrd) or "
            "the viewer of another machine (rerun_to:=rerun+http://HOST:9876/proxy)"
        )
    return partial(rerun_recording.spawn, APPLICATION)


def main() -> int:
    return run_observer(RerunView)


if __name__ == "__main__":
    sys.exit(main())
