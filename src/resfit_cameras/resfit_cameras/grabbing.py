"""The thread that reads a source, and what it knows about the source's health; no ROS here."""

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from resfit_cameras.source import EndOfSource, Frame, ImageSource, SourceError
from resfit_rl.observation import RepeatCounter

RATE_WINDOW = 5.0  # s
# s between two questions to a source that has nothing yet.
IDLE = 0.005


@dataclass(frozen=True)
class Health:
    """
    Attributes:
        frames: grabbed since the start of the thread.
        rate: Hz, over the last 5 s.
        age: s since the newest frame came, or since the start.
        delay: s from the newest frame's stamp to its arrival; 0 of a file.
        dropped: by the source; None where it cannot tell.
        repeats: per view, how many times in a row the newest picture came.
        frozen: views whose picture came too many times in a row.
        failure: why the thread has ended by itself; '' while it runs.
        ended: it was the end of a file.
    """

    frames: int
    rate: float
    age: float
    delay: float
    dropped: int | None
    repeats: tuple[int, ...]
    frozen: tuple[int, ...]
    failure: str
    ended: bool


class Grabber:
    """Reads a source in a thread of its own and hands each frame on, until told to stop.

    A frame of a frozen view is not handed on: an old picture must not pass for what is there now.

    Args:
        deliver: called in the thread with each frame.
        paced: a file's frames are handed on as far apart as their stamps are.
        max_identical_frames: the same picture that many times in a row is a frozen view; 0: never.
        waiting: a file's frame that an earlier grabber had read but not handed on yet.

    Attributes:
        waiting: after the end, the frame that the next grabber is to begin with.
    """

    def __init__(
        self,
        source: ImageSource,
        deliver: Callable[[Frame], None],
        *,
        paced: bool,
        max_identical_frames: int,
        waiting: Frame | None = None,
    ) -> None:
        self.waiting = waiting
        self._source = source
        self._deliver = deliver
        self._paced = paced and not source.live
        self._limit = max_identical_frames
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._done = self._abandoned = False
        self._repeats = [RepeatCounter() for _ in source.intrinsics]
        self._frozen: tuple[int, ...] = ()
        self._arrivals: deque[float] = deque(maxlen=1000)
        self._frames = 0
        self._delay = 0.0
        self._dropped: int | None = None
        self._failure = ""
        self._ended = False
        self._start = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="grab", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """False when the source did not come back within `timeout` s.

        Then the thread closes the source once it does: nobody else may touch it any more.
        """
        self._stopping.set()
        self._thread.join(timeout)
        with self._lock:
            self._abandoned = not self._done
            return self._done

    def health(self) -> Health:
        now = time.monotonic()
        with self._lock:
            recent = [arrival for arrival in self._arrivals if now - arrival <= RATE_WINDOW]
            span = recent[-1] - recent[0] if len(recent) > 1 else 0.0
            return Health(
                self._frames,
                (len(recent) - 1) / span if span else 0.0,
                now - (self._arrivals[-1] if self._arrivals else self._start),
                self._delay,
                self._dropped,
                tuple(counter.count for counter in self._repeats),
                self._frozen,
                self._failure,
                self._ended,
            )

    def _run(self) -> None:
        failure, ended = "", False
        try:
            self._source.skip_waiting()
            self._loop()
        except SourceError as error:
            failure, ended = str(error), isinstance(error, EndOfSource)
        except Exception as error:
            traceback.print_exc()
            failure = f"{type(error).__name__}: {error}"
        with self._lock:
            self._failure, self._ended, self._done = failure, ended, True
            abandoned = self._abandoned
        if abandoned:
            self._source.close()

    def _loop(self) -> None:
        first: int | None = None
        start = time.monotonic()
        while not self._stopping.is_set():
            frame, self.waiting = self.waiting or self._source.grab(), None
            if frame is None:
                self._stopping.wait(IDLE)
                continue
            if self._paced:
                first = frame.stamp if first is None else first
                wait = start + (frame.stamp - first) / 1e9 - time.monotonic()
                if wait > 0:
                    self._stopping.wait(wait)
            if self._stopping.is_set():
                self.waiting = None if self._source.live else frame
                return
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        arrival = time.monotonic()
        delay = (time.time_ns() - frame.stamp) / 1e9 if self._source.live else 0.0
        frozen = ()
        if self._limit:
            counts = [c.add(view) for c, view in zip(self._repeats, frame.views, strict=True)]
            frozen = tuple(i for i, count in enumerate(counts) if count >= self._limit)
        with self._lock:
            self._frames += 1
            self._arrivals.append(arrival)
            self._delay, self._dropped, self._frozen = delay, frame.dropped, frozen
        if not frozen:
            self._deliver(frame)
