"""Which step is due, of which episode, and when: the driver's loop without robot, gate and ROS."""

from dataclasses import dataclass
from enum import Enum, auto


class Phase(Enum):
    """What the driver does with time.

    Simulated time moves only by steps, and between reset and end of an episode only by steps of
    that episode, so that observation k has one stamp, however long a pause lasts.
    """

    IDLE = auto()  # no episode: in real time the robot goes on, holding
    READY = auto()  # reset for an episode that does not run yet
    RUNNING = auto()
    PAUSED = auto()
    ENDED = auto()  # no step may follow: time limit or fault


class Due(Enum):
    """What must be done now."""

    NOTHING = auto()
    STEP = auto()  # a step of the episode, with the action of the gate's verdict
    IDLE = auto()  # a step with the hold action, outside any episode
    PUBLISH = auto()  # the period is over: send what the last step gave


@dataclass
class Stepping:
    """The next step and its time.

    Lockstep steps as soon as a command is there and publishes at once. Real time follows a
    schedule without drift: observation k goes out at tick k, or later where the last step took too
    long; from then on the command for it is waited for until the deadline; the step is computed in
    the rest of the period and published at tick k + 1. All times are of a steady clock, ns.

    Attributes:
        period: of control, ns.
        real_time: False for lockstep.
        deadline: ns after the observation went out; unused in lockstep.
        phase: see Phase.
        episode_id: of the last reset, 0 before the first.
        step: index of the current observation in that episode.
        stamp: of the current observation, simulated ns.
        overruns: how often a step took so long that its tick was missed by a whole period.
    """

    period: int
    real_time: bool
    deadline: int
    phase: Phase = Phase.IDLE
    episode_id: int = 0
    step: int = 0
    stamp: int = 0
    overruns: int = 0
    _max_steps: int = 0
    _tick: int = 0
    _published: int = 0
    _computed: bool = False

    @property
    def running(self) -> bool:
        return self.phase is Phase.RUNNING

    def reset(self, episode_id: int, stamp: int, now: int) -> None:
        """The robot is at observation 0 of `episode_id`; 0: of no episode."""
        self.phase = Phase.READY if episode_id else Phase.IDLE
        self.episode_id, self.step, self.stamp = episode_id, 0, stamp
        self._tick = self._published = now
        self._computed = False

    def run(self, episode_id: int, start_stamp: int, max_steps: int, now: int) -> str | None:
        """The episode runs (again). Returns why this driver cannot take part in it, if so."""
        if episode_id == self.episode_id and self.phase in (Phase.RUNNING, Phase.ENDED):
            return None
        at_start = self.step == 0 and start_stamp == self.stamp
        if episode_id != self.episode_id or not (self.phase is Phase.PAUSED or at_start):
            return (
                f"episode {episode_id} runs from stamp {start_stamp}, but the last reset was for "
                f"episode {self.episode_id}, now at step {self.step}, stamp {self.stamp}: holding"
            )
        self._max_steps = max_steps
        self.phase = Phase.RUNNING if self.step < max_steps else Phase.ENDED
        self._tick = self._published = now
        return None

    def pause(self, episode_id: int) -> None:
        if self.running and episode_id == self.episode_id:
            self.phase = Phase.PAUSED

    def finish(self, episode_id: int, now: int) -> None:
        """No episode is under way any more, or only a later one than `episode_id`."""
        if episode_id < self.episode_id and self.phase is Phase.READY:
            return  # Old news, overtaken by the reset for the next episode.
        if self.phase is not Phase.IDLE:
            self.phase = Phase.IDLE
            self._tick = now

    def fault(self) -> None:
        """The episode must end: no step of it will follow."""
        self.phase = Phase.ENDED

    @property
    def awaits_command(self) -> bool:
        """Whether a command for the current observation may be executed now."""
        return self.running and not self._computed

    def due(self, now: int, judged: bool) -> Due:
        """`judged`: the gate's verdict on what came for the current observation is final."""
        if self._computed:
            over = not self.real_time or now >= self._tick + self.period
            return Due.PUBLISH if over else Due.NOTHING
        if self.running:
            late = self.real_time and now >= self._published + self.deadline
            return Due.STEP if judged or late else Due.NOTHING
        return Due.IDLE if self.phase is Phase.IDLE and self.real_time else Due.NOTHING

    def wake(self) -> int | None:
        """When `due` changes by itself, steady ns; None: only a message changes it."""
        if not self.real_time:
            return None
        if self._computed:
            return self._tick + self.period
        if self.running:
            return self._published + self.deadline
        return self._tick if self.phase is Phase.IDLE else None

    def computed(self) -> None:
        """A step was simulated; it waits for its tick."""
        self._computed = True

    def published(self, stamp: int, now: int) -> None:
        """What the step gave is sent, with `stamp`: it is the current observation."""
        self._computed = False
        self._published = now
        self.stamp = stamp
        if self.phase is not Phase.IDLE:
            self.step += 1
            if self.running and self.step >= self._max_steps:
                self.phase = Phase.ENDED
        self._tick += self.period
        if self.real_time and now >= self._tick + self.period:
            # Catching up in a burst would give the policy no time: start the schedule anew.
            self._tick = now
            self.overruns += 1
