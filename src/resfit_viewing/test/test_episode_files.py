"""Files of episodes, read back with the MCAP reader."""

import array
import os
import resource

import pytest
from builtin_interfaces.msg import Time
from mcap.exceptions import EndOfFile
from mcap.reader import NonSeekingReader, make_reader
from mcap_ros2.decoder import DecoderFactory
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from resfit_viewing.episode_files import Channel, EpisodeFiles, header_stamp, rename_leftovers
from resfit_viewing.message_definitions import message_definition, type_name

SECOND = 1_000_000_000


def channel(kind, topic, **options):
    name = type_name(kind)
    return Channel(topic, name, message_definition(name), **options)


CAMERA = channel(Image, "/cameras/front/image_raw", once=True)
EVENTS = channel(String, "/events")
STATE = channel(String, "/state", latched=True)


def picture(seconds, value=7):
    header = Header(stamp=Time(sec=seconds), frame_id="front_optical_frame")
    image = Image(header=header, height=2, width=2, encoding="rgb8", step=6)
    image.data.frombytes(bytes([value]) * 12)
    return serialize_message(image)


def text(value):
    return serialize_message(String(data=value))


def read(path):
    """(topic, message) in order of time."""
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        return [(found.topic, message) for _, found, _, message in reader.iter_decoded_messages()]


def take_pictures(files, *seconds):
    for second in seconds:
        files.message(CAMERA, picture(second), second * SECOND)


def test_an_episode_is_one_file_from_observation_0_on(tmp_path):
    files = EpisodeFiles(tmp_path)
    files.message(STATE, text("before"), 0)
    files.reset(1)
    take_pictures(files, 8, 9, 10)  # where the robot was, on its way, observation 0
    files.start(1, 10 * SECOND, 11 * SECOND)
    take_pictures(files, 11, 11, 12)  # a waiting driver repeats itself
    files.message(EVENTS, text("moved"), 12 * SECOND)
    assert [path.name for path in tmp_path.glob("*.mcap")] == []
    path = files.end("", {"outcome": "success"})
    assert path == tmp_path / "episode_000001.mcap"
    messages = read(path)
    stamps = [m.header.stamp.sec for topic, m in messages if topic == CAMERA.topic]
    assert stamps == [10, 11, 12]
    assert [m.data for topic, m in messages if topic == "/state"] == ["before"]
    assert [m.data for topic, m in messages if topic == "/events"] == ["moved"]
    first = next(m for topic, m in messages if topic == CAMERA.topic)
    assert (first.encoding, first.height, bytes(first.data)) == ("rgb8", 2, bytes([7]) * 12)


def test_schemas_are_those_that_foxglove_knows(tmp_path):
    files = EpisodeFiles(tmp_path)
    files.reset(1)
    files.start(1, 0, 0)
    take_pictures(files, 1)
    path = files.end("", {"outcome": "failure"})
    with path.open("rb") as file:
        reader = make_reader(file)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        (schema,) = summary.schemas.values()
        assert (schema.name, schema.encoding) == ("sensor_msgs/msg/Image", "ros2msg")
        (found,) = summary.channels.values()
        assert found.message_encoding == "cdr"
        assert summary.statistics.message_count == 1
        (metadata,) = reader.iter_metadata()
        assert metadata.metadata == {"outcome": "failure"}


def test_the_stamp_of_a_serialized_message():
    image = Image(header=Header(stamp=Time(sec=1_700_000_000, nanosec=123_456_789)))
    assert header_stamp(serialize_message(image)) == 1_700_000_000_123_456_789


def test_an_aborted_episode_says_so(tmp_path):
    files = EpisodeFiles(tmp_path)
    files.reset(4)
    files.start(4, 0, 0)
    take_pictures(files, 1)
    assert files.end("aborted").name == "episode_000004_aborted.mcap"


def test_an_episode_that_never_ran_leaves_no_file(tmp_path):
    files = EpisodeFiles(tmp_path)
    files.reset(4)
    take_pictures(files, 1)
    assert files.end("aborted") is None
    take_pictures(files, 2)
    assert list(tmp_path.iterdir()) == []


def test_the_next_reset_cuts_an_episode_off(tmp_path):
    files = EpisodeFiles(tmp_path)
    files.reset(1)
    files.start(1, 0, 0)
    take_pictures(files, 1)
    files.reset(2)
    assert files.episode_id == 2
    (path,) = tmp_path.iterdir()
    assert path.name == "episode_000001_interrupted.mcap"
    assert len(read(path)) == 1


def test_a_recording_that_begins_in_the_middle_says_so(tmp_path):
    files = EpisodeFiles(tmp_path)
    files.start(3, 5 * SECOND, 9 * SECOND)
    take_pictures(files, 9)
    assert files.end().name == "episode_000003_partial.mcap"


def test_a_killed_recorder_leaves_a_file_with_a_clear_name(tmp_path):
    files = EpisodeFiles(tmp_path)
    files.reset(1)
    files.start(1, 0, 0)
    large = Image(header=Header(stamp=Time(sec=1)), height=500, width=500, encoding="rgb8")
    large.data.frombytes(os.urandom(750_000))
    files.message(CAMERA, serialize_message(large), SECOND)
    take_pictures(files, 2)
    # No end(): the process is gone.
    (path,) = rename_leftovers(tmp_path)
    assert path.name == "episode_000001_interrupted.mcap"
    # What was in a whole chunk is there, also without an index.
    assert [m.header.stamp.sec for _, m in _without_index(path)] == [1]
    assert rename_leftovers(tmp_path) == []


def _without_index(path):
    found = []
    with path.open("rb") as file:
        reader = NonSeekingReader(file, decoder_factories=[DecoderFactory()])
        try:
            for _, found_channel, _, message in reader.iter_decoded_messages(log_time_order=False):
                found.append((found_channel.topic, message))
        except EndOfFile:
            pass
    return found


def test_no_file_is_written_over(tmp_path):
    for _ in range(2):
        files = EpisodeFiles(tmp_path)
        files.reset(1)
        files.start(1, 0, 0)
        files.end()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "episode_000001.mcap",
        "episode_000001_2.mcap",
    ]


def test_while_the_robot_is_reset_only_the_newest_is_kept(tmp_path):
    files = EpisodeFiles(tmp_path, max_backlog=3 * len(picture(1)))
    files.reset(1)
    take_pictures(files, 1, 2, 3, 4, 5)
    files.start(1, 0, 0)
    assert [m.header.stamp.sec for _, m in read(files.end())] == [3, 4, 5]


@pytest.fixture
def small_disk():
    """No file of this process may grow beyond 1 MB: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_the_recording_of_that_episode_only(tmp_path, small_disk):
    files = EpisodeFiles(tmp_path)
    files.reset(1)
    files.start(1, 0, 0)
    large = Image(height=500, width=500, encoding="rgb8")
    with pytest.raises(OSError):
        for second in range(10):
            large.data = array.array("B", os.urandom(750_000))
            files.message(EVENTS, serialize_message(large), second)
    assert not files.writing
    take_pictures(files, 2)
    files.reset(2)
    files.start(2, 0, 0)
    take_pictures(files, 3)
    assert files.end().name == "episode_000002.mcap"
    assert (tmp_path / "episode_000001_interrupted.mcap").exists()
