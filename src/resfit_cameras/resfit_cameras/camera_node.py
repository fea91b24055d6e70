"""The lifecycle node around a source of pictures.

| transition | what it does |
| --- | --- |
| configure | opens and checks the source; fails with one line when it is not what it should be |
| activate | starts the thread that grabs and publishes |
| deactivate | stops it; the source stays open |
| cleanup, shutdown | closes the source |
| error | a source that died while active: closed, the node is unconfigured, with the reason |

Stamps are ROS time. Live, they are the camera's own, which the sources give as system time; where
simulated time is in use, they lie as far before now as the picture is old. Of a file, the first
picture after activation is stamped now and the others as far after it as they were recorded.
"""

import re
import time
from abc import abstractmethod

import cv2
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, Image

from resfit_cameras.grabbing import Grabber, Health
from resfit_cameras.pictures import Fit
from resfit_cameras.source import Frame, ImageSource, SourceError
from resfit_interfaces.msg import NodeHeartbeat
from resfit_ros import qos
from resfit_ros.conversions import array_to_image, ns_to_stamp
from resfit_ros.heartbeat import Heartbeat
from resfit_ros.lifecycle import ERROR, FAILURE, SUCCESS, DiagnosedLifecycleNode
from resfit_ros.parameters import ConfigurationError, declare

WATCH_PERIOD = 0.1  # s
STOP_TIMEOUT = 2.0  # s that a grab under way may take when it is to stop


class CameraNode(DiagnosedLifecycleNode):
    """A subclass declares its source's parameters and opens it.

    Timers, services and the opening run in the executor's thread, so the heartbeat is silent while
    a source opens; grabbing and publishing run in the grabber's.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._declare_parameters()
        self._declare_source()
        # The cores belong to policy and learner; these pictures are small.
        cv2.setNumThreads(1)
        self._source: ImageSource | None = None
        self._grabber: Grabber | None = None
        self._waiting: Frame | None = None  # read from a file, not published yet
        self._reopen_at: float | None = None
        self._stamped = 0  # ns, newest stamp of a file
        self._anchor: tuple[int, int] | None = None  # of a file: its stamp, the stamp given
        self._heartbeat = Heartbeat(self, "camera")
        self._heartbeat.publish()
        self._images = [
            self.create_lifecycle_publisher(Image, f"cameras/{c}/image_raw", qos.SENSOR)
            for c in self._cameras
        ]
        self._infos = [
            self.create_lifecycle_publisher(CameraInfo, f"cameras/{c}/camera_info", qos.SENSOR)
            for c in self._cameras
        ]
        if self._autostart and not self.bring_up():
            raise ConfigurationError(self.reason)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(WATCH_PERIOD, self._watch, clock=steady)
        self.create_timer(1.0, self._diagnose, clock=steady)

    def _declare_parameters(self) -> None:
        self._cameras: tuple[str, ...] = (
            declare(
                self,
                "left_camera",
                "head_left",
                "Camera of the left picture, or of the only one: cameras/<camera>/image_raw.",
            ),
            declare(
                self,
                "right_camera",
                "head_right",
                "Camera of the right picture, where there are two.",
            ),
        )
        self._frame_template = declare(
            self, "camera_frame", "{camera}_optical_frame", "Optical frames; {camera}: name."
        )
        self._fit = Fit(
            *(
                declare(
                    self,
                    f"image_{side}",
                    84,
                    f"{side} of the published pictures, resized by area averaging; 0: as they are.",
                    range=(0, 4096),
                )
                for side in ("height", "width")
            ),
            declare(
                self,
                "crop_square",
                False,
                "Cut the middle square out before resizing; otherwise a wide picture is squeezed.",
            ),
        )
        self._autostart = declare(
            self,
            "autostart",
            True,
            "Configure and activate at the start, which ends with exit code 1 when that fails, and "
            "again after a loss; otherwise the lifecycle services do.",
        )
        self._reopen_period = declare(
            self,
            "reopen_period",
            5.0,
            "autostart: between attempts to open a camera that was lost, s; 0: none.",
            range=(0.0, 3600.0),
        )
        self._max_identical_frames = declare(
            self,
            "max_identical_frames",
            10,
            "The same picture bit for bit that many times in a row is a frozen camera: an error, "
            "and not published; 0: never.",
            range=(0, 100000),
        )
        self._max_frame_age = declare(
            self,
            "max_frame_age",
            0.5,
            "Silence of the camera, or distance of its stamps from the clock, that is an error, s.",
            range=(0.01, 60.0),
        )
        self._real_time = declare(
            self,
            "real_time",
            True,
            "A file is played at its own pace; otherwise as fast as it can be read.",
        )
        if bool(self._fit.height) != bool(self._fit.width):
            raise ConfigurationError(
                "parameters 'image_height', 'image_width': expected both or none to be 0, "
                f"found {self._fit.height} and {self._fit.width}"
            )
        if self._max_identical_frames == 1:
            raise ConfigurationError(
                "parameter 'max_identical_frames': expected 0, or 2 and more, found 1"
            )
        try:
            self._frame_template.format(camera="")
        except (KeyError, IndexError, ValueError):
            raise ConfigurationError(
                "parameter 'camera_frame': expected only {camera} in braces, "
                f"found {self._frame_template!r}"
            ) from None

    def _use_views(self, number: int) -> None:
        """The source gives one picture, or two: whose camera names are then both needed."""
        self._cameras = self._cameras[:number]
        for side, camera in zip(("left", "right"), self._cameras, strict=False):
            if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", camera):
                raise ConfigurationError(
                    f"parameter '{side}_camera': expected letters, digits and _, found {camera!r}"
                )
        if len(set(self._cameras)) < number:
            raise ConfigurationError(
                f"parameter 'right_camera': expected another name than the left one's, "
                f"found {self._cameras[0]!r}"
            )

    @abstractmethod
    def _declare_source(self) -> None:
        """Declare the source's parameters and call _use_views."""

    @abstractmethod
    def _open(self) -> ImageSource:
        """SourceError when the source is not there or is not as asked for."""

    # -- lifecycle --------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.guarded(self._configure)

    def _configure(self) -> TransitionCallbackReturn:
        try:
            source = self._open()
        except SourceError as error:
            # Said once, however often a lost camera is looked for.
            if str(error) != self.reason and not self.starting:
                self.get_logger().error(str(error))
            self.reason = str(error)
            return FAILURE
        self._source = source
        self._waiting = None
        self.reason = ""
        self._reopen_at = None
        self._templates = [self._info(camera, view) for view, camera in enumerate(self._cameras)]
        self.get_logger().info(f"{', '.join(self._cameras)}: {source.description}")
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.guarded(lambda: self._activate(state))

    def _activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        super().on_activate(state)
        self._anchor = None
        self._grabber = Grabber(
            self._source,
            self._publish,
            paced=self._real_time,
            max_identical_frames=self._max_identical_frames,
            waiting=self._waiting,
        )
        self._grabber.start()
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.guarded(lambda: self._deactivate(state))

    def _deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        super().on_deactivate(state)
        return ERROR if self.reason else SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.guarded(self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._reopen_at = None
        return self.guarded(self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Whatever failed, the node can be configured anew."""
        for publisher in (*self._images, *self._infos):
            publisher.on_deactivate(state)
        return self.guarded(self._release)

    def _release(self) -> TransitionCallbackReturn:
        self._stop()
        source, self._source = self._source, None
        if source is not None:
            source.close()
        return SUCCESS

    def _stop(self) -> None:
        """End the grabbing; sets the reason when the source had died, or hangs."""
        grabber, self._grabber = self._grabber, None
        if grabber is None:
            return
        if not grabber.stop(STOP_TIMEOUT):
            self._fail(f"{self._source.description}: grab: expected an end, found it hanging")
            self._source = None
            return
        self._waiting = grabber.waiting
        health = grabber.health()
        if health.failure:
            self._fail(health.failure, again=not health.ended)

    def _fail(self, reason: str, again: bool = True) -> None:
        self.reason = reason
        self.get_logger().error(reason)
        if again and self._autostart and self._reopen_period:
            self._reopen_at = time.monotonic() + self._reopen_period

    def close(self) -> None:
        self._release()

    # -- pictures, in the grabber's thread --------------------------------------------------------

    def _publish(self, frame: Frame) -> None:
        stamp = ns_to_stamp(self._stamp(frame))
        for view, picture in enumerate(frame.views):
            info = self._templates[view]
            image = array_to_image(self._fit(picture), stamp, info.header.frame_id)
            info.header.stamp = stamp
            self._infos[view].publish(info)
            self._images[view].publish(image)

    def _stamp(self, frame: Frame) -> int:
        """ROS time of a frame, ns."""
        clock = self.get_clock()
        if self._source.live:
            if not clock.ros_time_is_active:
                return frame.stamp
            return max(clock.now().nanoseconds - (time.time_ns() - frame.stamp), 0)
        if self._anchor is None:
            # A file read faster than it was recorded has run ahead of the clock.
            self._anchor = frame.stamp, max(clock.now().nanoseconds, self._stamped + 1)
        self._stamped = self._anchor[1] + frame.stamp - self._anchor[0]
        return self._stamped

    def _info(self, camera: str, view: int) -> CameraInfo:
        """Without a calibration K is 0, as the message asks for."""
        source = self._source
        height, width = self._fit.size(source.size)
        info = CameraInfo(height=height, width=width)
        info.header.frame_id = self._frame_template.format(camera=camera)
        if source.intrinsics[view] is not None:
            intrinsics = self._fit.intrinsics(source.intrinsics[view], source.size)
            info.distortion_model = intrinsics.model
            info.d = list(intrinsics.distortion)
            info.k = intrinsics.matrix.ravel()
            info.r = intrinsics.rectification.ravel()
            info.p = intrinsics.projection.ravel()
        return info

    # -- health -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        health = self._grabber.health() if self._grabber is not None else None
        if health is not None and health.failure:
            # The way into error processing is a transition that fails.
            self.trigger_deactivate()
        elif self._reopen_at is not None and time.monotonic() >= self._reopen_at:
            self._reopen_at = time.monotonic() + self._reopen_period
            if self.trigger_configure() == SUCCESS:
                self.trigger_activate()
        self._heartbeat.set(*self._state())

    def _state(self) -> tuple[int, str]:
        """State of the heartbeat, and why."""
        if self.reason:
            return NodeHeartbeat.ERROR, self.reason
        if self._source is None:
            return NodeHeartbeat.STARTING, "not configured"
        if self._grabber is None:
            return NodeHeartbeat.BUSY, "not active"
        health = self._grabber.health()
        problem = self._problem(health)
        if problem:
            return NodeHeartbeat.ERROR, problem
        return (
            (NodeHeartbeat.READY, "") if health.frames else (NodeHeartbeat.BUSY, "no picture yet")
        )

    def _problem(self, health: Health) -> str:
        if health.failure:
            return health.failure
        if health.age > self._max_frame_age:
            return (
                f"{', '.join(self._cameras)}: expected a picture within {self._max_frame_age:g} s, "
                f"found none for {health.age:.1f} s"
            )
        if health.frozen:
            count = max(health.repeats)
            return (
                f"{', '.join(self._cameras[view] for view in health.frozen)}: frozen: "
                f"expected another picture, found the same one {count} times"
            )
        if abs(health.delay) > self._max_frame_age:
            return (
                f"{', '.join(self._cameras)}: expected stamps within {self._max_frame_age:g} s of "
                f"the clock, found {health.delay:.3f} s"
            )
        return ""

    def _diagnose(self) -> None:
        state, message = self._state()
        values: dict[str, object] = {
            "cameras": ", ".join(self._cameras),
            "source": self._source.description if self._source is not None else "",
        }
        if self._grabber is not None:
            health = self._grabber.health()
            dropped = "not told" if health.dropped is None else health.dropped
            values |= {
                "rate, Hz": f"{health.rate:.1f}",
                "pictures": health.frames,
                "dropped": dropped,
                "age of newest, s": f"{health.age:.3f}",
                "stamp to arrival, ms": f"{1e3 * health.delay:.1f}",
                "same picture in a row": max(health.repeats, default=0),
            }
        self.publish_diagnostics(state, message, values)
