"""Arrows and text as markers for rviz and Foxglove."""

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Vector3
from numpy.typing import ArrayLike
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

from resfit_viewing.arrows import Arrow, Color

_SHAFT, _HEAD, _HEAD_LENGTH = 0.008, 0.018, 0.02  # m
_SHORTEST = 1e-4  # m; rviz warns of arrows without a direction
_TEXT_HEIGHT = 0.06  # m


def arrow_marker(arrow: Arrow, stamp: Time, frame: str, number: int) -> Marker:
    """An arrow; one too short to be seen removes the one before it.

    Args:
        number: tells arrows of one kind apart.
    """
    marker = Marker(
        header=Header(stamp=stamp, frame_id=frame),
        ns=arrow.kind,
        id=number,
        type=Marker.ARROW,
        action=Marker.ADD,
        points=[_point(arrow.start), _point(arrow.end)],
        scale=Vector3(x=_SHAFT, y=_HEAD, z=_HEAD_LENGTH),
        color=_color(arrow.color),
    )
    marker.pose.orientation.w = 1.0
    length = sum((b - a) ** 2 for a, b in zip(arrow.start, arrow.end, strict=True)) ** 0.5
    if length < _SHORTEST:
        marker.action = Marker.DELETE
    return marker


def text_marker(
    text: str, color: Color, position: ArrayLike, stamp: Time, frame: str, kind: str
) -> Marker:
    """Text that faces whoever looks, at `position` (3,), m."""
    marker = Marker(
        header=Header(stamp=stamp, frame_id=frame),
        ns=kind,
        type=Marker.TEXT_VIEW_FACING,
        action=Marker.ADD,
        text=text,
        scale=Vector3(z=_TEXT_HEIGHT),
        color=_color(color),
    )
    marker.pose.position = _point(position)
    marker.pose.orientation.w = 1.0
    return marker


def _point(values: ArrayLike) -> Point:
    x, y, z = (float(value) for value in values)
    return Point(x=x, y=y, z=z)


def _color(color: Color) -> ColorRGBA:
    r, g, b, a = color
    return ColorRGBA(r=r, g=g, b=b, a=a)
