"""The columns of a data set of ours."""

from __future__ import annotations

from typing import Any

from resfit_rl.tasks import Task


def own_features(task: Task, image_size: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """LeRobot's description of the columns of a data set of ours."""
    features: dict[str, dict[str, Any]] = {
        image_key(camera): {
            "dtype": "image",
            "shape": (*image_size, 3),
            "names": ["height", "width", "channel"],
        }
        for camera in task.cameras
    }
    features["observation.state"] = {
        "dtype": "float32",
        "shape": (task.state_dim,),
        "names": [f"state_{i}" for i in range(task.state_dim)],
    }
    features["action"] = {
        "dtype": "float32",
        "shape": (task.action_dim,),
        "names": list(task.action_names),
    }
    return features


def image_key(camera: str) -> str:
    """LeRobot's name of a camera's pictures."""
    return f"observation.images.{camera}"
