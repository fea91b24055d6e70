"""QoS profiles of the graph, one per kind of topic, each with its reason."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=durability,
    )


# Lockstep simulation must lose nothing, and 21 kB images are cheap to repeat: reliable. A late
# joiner must not act on an old picture: volatile.
SENSOR = _profile(5, DurabilityPolicy.VOLATILE)
# Only the newest command may ever be executed: depth 1.
COMMAND = _profile(1, DurabilityPolicy.VOLATILE)
# What was executed is training data: a burst must not push one out.
EVENT = _profile(20, DurabilityPolicy.VOLATILE)
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
