"""What keeps robot and data safe: action gate, wrench limits, supervision of episodes."""
