"""Our own scenes: robots of robosuite, objects of primitives in MJCF, seeded starts, success."""
