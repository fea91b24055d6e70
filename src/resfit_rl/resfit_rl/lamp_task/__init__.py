"""A small vision task that shows within seconds that the agent learns, and what its parts give."""
