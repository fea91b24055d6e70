"""Definitions in recordings are whole: a reader that knows no ROS decodes with them alone."""

import pytest
from mcap.records import Schema
from mcap_ros2.decoder import DecoderFactory
from rclpy.serialization import serialize_message

from resfit_rl.tasks import get_task
from resfit_viewing.message_definitions import DefinitionError, message_definition, type_name
from resfit_viewing.topics import topics_of


@pytest.mark.parametrize("topic", topics_of(get_task("can")), ids=lambda topic: topic.name)
def test_every_topic_has_a_whole_definition(topic):
    name = type_name(topic.kind)
    schema = Schema(1, message_definition(name).encode(), "ros2msg", name)
    decode = DecoderFactory().decoder_for("cdr", schema)
    decoded = decode(serialize_message(topic.kind()))
    assert set(topic.kind.get_fields_and_field_types()) <= set(decoded.__slots__)


def test_types_within_types_come_once_each():
    text = message_definition("visualization_msgs/msg/MarkerArray")
    for inner in ("visualization_msgs/Marker", "std_msgs/Header", "builtin_interfaces/Time"):
        assert text.count(f"MSG: {inner}\n") == 1


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(DefinitionError, match="no_such_msgs/msg/Thing: expected its definition"):
        message_definition("no_such_msgs/msg/Thing")
