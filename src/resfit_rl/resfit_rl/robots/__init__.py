"""What robots are made of: joints, limits, links that may touch; from their description files."""
