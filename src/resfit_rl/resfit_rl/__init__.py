"""Residual off-policy fine-tuning of behaviour-cloned policies. Nothing here imports ROS."""
