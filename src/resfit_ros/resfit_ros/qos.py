"""QoS profiles of the graph, one per kind of topic, each with its reason."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=durability,
    )


# Lockstep simulation must lose nothing: reliable, and deep enough (5 s at 20 Hz, 2 MB a camera at
# 84x84) that a recorder on a busy machine can fall behind the robot without a hole in an episode.
# A late joiner must not act on an old picture: volatile.
SENSOR = _profile(100, DurabilityPolicy.VOLATILE)
# The driver's side: only the newest command may ever be executed, depth 1.
COMMAND = _profile(1, DurabilityPolicy.VOLATILE)
# What was asked for and what was executed is training data: as deep as the observations.
EVENT = _profile(100, DurabilityPolicy.VOLATILE)
# State that a restarted node must learn at once.
LATCHED = _profile(1, DurabilityPolicy.TRANSIENT_LOCAL)
HEARTBEAT = _profile(20, DurabilityPolicy.VOLATILE)
DIAGNOSTICS = _profile(10, DurabilityPolicy.VOLATILE)
# rclpy's own time source subscribes best effort with depth 1: nothing more is gained by more.
CLOCK = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
