"""The policy that acts."""
