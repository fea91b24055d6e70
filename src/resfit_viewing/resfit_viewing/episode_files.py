"""One MCAP file an episode, of messages as they came over the wire; no ROS needed.

A file grows under a name of its own and gets the episode's when that has ended: what is called
`episode_000001.mcap` is whole. Others say what they are: `_aborted`, `_partial` (the recording
began in the middle), `_interrupted` (it was cut off).
"""

import contextlib
import os
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mcap.writer import CompressionType, Writer

_CHUNK = 256 * 1024  # bytes; what of a file a killed process loses at most
_TEMPORARY = ".tmp"


@dataclass(frozen=True)
class Channel:
    """What is recorded of one topic.

    Attributes:
        topic: with its namespace.
        type: 'sensor_msgs/msg/Image'.
        definition: text of the message and of all within it.
        latched: the newest message from before an episode belongs to it too.
        once: a stamp that came already is not written again: a waiting driver repeats itself.
    """

    topic: str
    type: str
    definition: str
    latched: bool = False
    once: bool = False


@dataclass(frozen=True)
class _Message:
    channel: Channel
    data: bytes
    log_time: int


def header_stamp(data: bytes) -> int:
    """ns, of a serialized message (CDR) that begins with a std_msgs/Header."""
    order = "<" if data[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, 4)
    return int(seconds * 1_000_000_000 + nanoseconds)


def file_name(episode_id: int, ending: str = "") -> str:
    return f"episode_{episode_id:06d}{'_' + ending if ending else ''}.mcap"


def rename_leftovers(folder: Path) -> list[Path]:
    """Give what killed recorders left in `folder` its clear name; the new paths.

    Only for the folder's one writer.
    """
    renamed = []
    for path in sorted(folder.glob(f".episode_*.mcap{_TEMPORARY}")):
        name = path.name.removeprefix(".").removesuffix(f".mcap{_TEMPORARY}")
        target = _free(folder / f"{name}_interrupted.mcap")
        os.replace(path, target)
        renamed.append(target)
    return renamed


class EpisodeFiles:
    """Follows episodes and writes what belongs to each.

    `reset`, `start` and `end` say where an episode is; `message` takes whatever comes.

    Args:
        folder: of the files; made when the first one is written.
        max_backlog: bytes of messages kept while the robot is being reset, the newest: where
            observation 0 is among them is known only once the episode runs.
    """

    def __init__(self, folder: Path, max_backlog: int = 64 * 2**20) -> None:
        self._folder = folder
        self._max_backlog = max_backlog
        self._latched: dict[str, _Message] = {}
        self._backlog: deque[_Message] = deque()
        self._backlog_size = 0
        self._stamps: dict[str, int] = {}
        self._partial = False
        self._episode_id = 0
        self._temporary: Path | None = None
        self._file: IO[bytes] | None = None
        self._writer: Writer | None = None
        self._ids: dict[str, int] = {}
        self.messages = 0

    @property
    def episode_id(self) -> int:
        """Of the episode that is being followed; 0: none."""
        return self._episode_id

    @property
    def writing(self) -> bool:
        return self._writer is not None

    def reset(self, episode_id: int) -> None:
        """The robot goes to the start of this episode."""
        self.end("interrupted")
        self._episode_id = episode_id

    def start(self, episode_id: int, start_stamp: int, now: int) -> None:
        """It runs, or goes on.

        Args:
            start_stamp: of observation 0, ns; sensors' messages from before do not belong to it.
            now: ns of the graph's clock.

        Raises:
            OSError: the file cannot be made; nothing of this episode is recorded.
        """
        if self.writing and episode_id == self._episode_id:
            return
        self._partial = episode_id != self._episode_id
        if self._partial:
            self.reset(episode_id)
        backlog, self._backlog, self._backlog_size = self._backlog, deque(), 0
        self._open()
        begun = now if self._partial else start_stamp
        for message in self._latched.values():
            self._write(_Message(message.channel, message.data, begun))
        for message in backlog:
            if message.channel.latched:
                continue
            if not message.channel.once or message.log_time >= start_stamp:
                self._write(message)

    def message(self, channel: Channel, data: bytes, log_time: int) -> None:
        """A message, serialized (CDR).

        Args:
            log_time: ns; its stamp, or when it came if it has none.

        Raises:
            OSError: it could not be written; the file is closed under the name of an interrupted
                one.
        """
        message = _Message(channel, data, log_time)
        if channel.latched:
            self._latched[channel.topic] = message
        if self.writing:
            self._write(message)
        elif self._episode_id:
            self._backlog.append(message)
            self._backlog_size += len(data)
            while self._backlog_size > self._max_backlog:
                self._backlog_size -= len(self._backlog.popleft().data)

    def end(self, ending: str = "", metadata: Mapping[str, str] | None = None) -> Path | None:
        """The episode is over: the path of its file, None without one.

        Args:
            ending: of the name; '' for an episode that is whole.
            metadata: written as the record 'episode'.

        Raises:
            OSError: it could not be written; what there is of it is kept as an interrupted one.
        """
        self._backlog.clear()
        self._backlog_size = 0
        if self._writer is None:
            self._episode_id = 0
            return None
        writer, self._writer = self._writer, None
        ending = ending or ("partial" if self._partial else "")
        try:
            if metadata:
                writer.add_metadata("episode", dict(metadata))
            writer.finish()
            assert self._file is not None
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            ending = "interrupted"
            raise
        finally:
            path = self._close(ending)
        return path

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = file_name(self._episode_id)
        self._temporary = self._folder / f".{name}{_TEMPORARY}"
        self._file = self._temporary.open("wb")
        self._writer = Writer(self._file, chunk_size=_CHUNK, compression=CompressionType.ZSTD)
        self._writer.start(profile="ros2", library="resfit")
        self._ids, self._stamps, self.messages = {}, {}, 0

    def _write(self, message: _Message) -> None:
        channel, writer = message.channel, self._writer
        assert writer is not None
        if channel.once:
            if self._stamps.get(channel.topic, -1) >= message.log_time:
                return
            self._stamps[channel.topic] = message.log_time
        try:
            if channel.topic not in self._ids:
                schema = writer.register_schema(
                    channel.type, "ros2msg", channel.definition.encode()
                )
                self._ids[channel.topic] = writer.register_channel(channel.topic, "cdr", schema)
            writer.add_message(
                self._ids[channel.topic], message.log_time, message.data, message.log_time
            )
        except OSError:
            self._writer = None
            self._close("interrupted")
            raise
        self.messages += 1

    def _close(self, ending: str) -> Path:
        assert self._file is not None and self._temporary is not None
        # A full disk was reported when it was written to.
        with contextlib.suppress(OSError):
            self._file.close()
        path = _free(self._folder / file_name(self._episode_id, ending))
        os.replace(self._temporary, path)
        self._file = self._temporary = None
        self._episode_id = 0
        return path


def _free(path: Path) -> Path:
    """`path`, or with a number behind it where there is one already."""
    number = 2
    free = path
    while free.exists():
        free = path.with_stem(f"{path.stem}_{number}")
        number += 1
    return free
