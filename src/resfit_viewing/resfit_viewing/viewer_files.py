"""Configurations of rviz, rqt and Foxglove for a task: its cameras, its wrists; no ROS here.

Those in `config/` (rviz/resfit.rviz, rqt/resfit.perspective, foxglove/resfit.json) are Vega's, made
by `python -m resfit_viewing.viewer_files --out config`; the launch file makes other tasks'.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.tasks import Task, get_task

FILES = {
    "rviz": Path("rviz", "resfit.rviz"),
    "rqt": Path("rqt", "resfit.perspective"),
    "foxglove": Path("foxglove", "resfit.json"),
}
_BACKGROUND = "48; 48; 48"
# As arrows.py scales them.
_FORCE_SCALE, _TORQUE_SCALE = 0.005, 0.05


def viewer_files(task: Task, namespace: str = "") -> dict[str, str]:
    """Viewer -> text of its file.

    Args:
        namespace: of the graph, '' or '/robot_1'.
    """
    root = namespace.rstrip("/")
    return {
        "rviz": yaml.safe_dump(rviz(task, root), sort_keys=False, width=100),
        "rqt": json.dumps(rqt(task, root), indent=2) + "\n",
        "foxglove": json.dumps(foxglove(task, root), indent=2) + "\n",
    }


def write_viewer_files(folder: Path, task: Task, namespace: str = "") -> dict[str, Path]:
    """Viewer -> the file written below `folder`, as FILES names it."""
    paths = {}
    for viewer, text in viewer_files(task, namespace).items():
        paths[viewer] = folder / FILES[viewer]
        write_atomically(paths[viewer], text.encode())
    return paths


def plots(task: Task) -> dict[str, list[str]]:
    """Title of a plot -> topic and field of its curves; relative."""
    wrists = range(len(task.wrists))
    return {
        "force, N": [f"safety_status/force[{i}]" for i in wrists]
        + [f"safety_status/max_force[{i}]" for i in wrists],
        "torque, N m": [f"safety_status/torque[{i}]" for i in wrists]
        + [f"safety_status/max_torque[{i}]" for i in wrists],
        "residual norm": ["action_command/residual_norm", "learner_status/residual_norm"],
        "Q": ["learner_status/q_mean"],
        "success rate": ["episode_state/recent_success_rate"],
        "latency, s": ["action_command/latency"],
    }


# -- rviz -----------------------------------------------------------------------------------------


def rviz(task: Task, root: str) -> dict[str, Any]:
    displays: list[dict[str, Any]] = [
        _display("Grid", "Grid", Color="160; 160; 164", **{"Plane Cell Count": 10}),
    ]
    if task.joint_actions:
        description = _topic(f"{root}/robot_description", durability="Transient Local")
        displays.append(
            _display(
                "RobotModel",
                "robot",
                **{"Description Source": "Topic", "Description Topic": description},
                **{"Visual Enabled": True, "Collision Enabled": False, "TF Prefix": ""},
            )
        )
    displays.append(
        _display(
            "MarkerArray",
            "actions, wrenches, safety state",
            Topic=_topic(f"{root}/markers", depth=100),
            Namespaces={},
        )
    )
    for wrist in task.wrists:
        # Off: the markers show the same; these can be scaled while rviz runs.
        displays.append(
            _display(
                "Wrench",
                f"wrench {wrist}",
                enabled=False,
                Topic=_topic(f"{root}/wrenches/{wrist}", depth=100),
                **{"Force Arrow Scale": _FORCE_SCALE, "Torque Arrow Scale": _TORQUE_SCALE},
            )
        )
    for camera in task.cameras:
        displays.append(
            _display("Image", camera, Topic=_topic(f"{root}/cameras/{camera}/image_raw", depth=5))
        )
    displays.append(
        _display("TF", "frames", enabled=False, **{"Show Names": False, "Marker Scale": 0.2})
    )
    return {
        "Panels": [
            {"Class": "rviz_common/Displays", "Name": "Displays"},
            {"Class": "rviz_common/Views", "Name": "Views"},
            {"Class": "rviz_common/Time", "Name": "Time", "SyncMode": 0, "SyncSource": ""},
        ],
        "Visualization Manager": {
            "Class": "",
            "Displays": displays,
            "Enabled": True,
            "Global Options": {
                "Background Color": _BACKGROUND,
                "Fixed Frame": "world",
                "Frame Rate": 30,
            },
            "Name": "root",
            "Tools": [
                {"Class": "rviz_default_plugins/Interact"},
                {"Class": "rviz_default_plugins/MoveCamera"},
                {"Class": "rviz_default_plugins/Measure"},
            ],
            "Transformation": {"Current": {"Class": "rviz_default_plugins/TF"}},
            "Value": True,
            "Views": {
                "Current": {
                    "Class": "rviz_default_plugins/Orbit",
                    "Name": "Current View",
                    "Distance": 2.2,
                    "Focal Point": {"X": 0.4, "Y": 0.0, "Z": 1.0},
                    "Pitch": 0.35,
                    "Yaw": 5.6,
                    "Target Frame": "world",
                },
                "Saved": None,
            },
        },
        "Window Geometry": {"Displays": {"collapsed": False}, "Height": 1000, "Width": 1700},
    }


def _display(kind: str, name: str, enabled: bool = True, **values: Any) -> dict[str, Any]:
    head = {"Class": f"rviz_default_plugins/{kind}", "Name": name}
    return head | {"Enabled": enabled, "Value": enabled} | values


def _topic(name: str, durability: str = "Volatile", depth: int = 1) -> dict[str, Any]:
    return {
        "Value": name,
        "Depth": depth,
        "Durability Policy": durability,
        "History Policy": "Keep Last",
        "Reliability Policy": "Reliable",
    }


# -- rqt ------------------------------------------------------------------------------------------


def rqt(task: Task, root: str) -> dict[str, Any]:
    groups = {}
    serials: dict[str, list[int]] = {}

    def add(plugin: str, **settings: Any) -> None:
        numbers = serials.setdefault(plugin, [])
        numbers.append(len(numbers) + 1)
        keys = {name: _setting(value) for name, value in settings.items()}
        name = f"plugin__{plugin.replace('/', '__')}__{numbers[-1]}"
        groups[name] = {"keys": {}, "groups": {"plugin": {"keys": keys, "groups": {}}}}

    for curves in plots(task).values():
        topics = [f"{root}/{curve}" for curve in curves]
        # rqt packs a list of one as the one. 1: matplotlib, which every installation has.
        packed = topics if len(topics) > 1 else topics[0]
        add("rqt_plot/Plot", autoscroll=True, plot_type=1, topics=packed)
    for camera in task.cameras:
        add("rqt_image_view/ImageView", topic=f"{root}/cameras/{camera}/image_raw")
    # The launch file has it listen to /diagnostics itself.
    add("rqt_robot_monitor/RobotMonitor")
    return {
        "keys": {},
        "groups": {
            "mainwindow": {"keys": {}, "groups": {}},
            "pluginmanager": {
                "keys": {"running-plugins": _setting(serials)},
                "groups": groups,
            },
        },
    }


def _setting(value: Any) -> dict[str, str]:
    return {"repr": repr(value), "type": "repr"}


# -- Foxglove -------------------------------------------------------------------------------------


def foxglove(task: Task, root: str) -> dict[str, Any]:
    panels: dict[str, Any] = {}
    panels["3D!robot"] = {
        "followTf": "world",
        "followMode": "follow-none",
        "cameraState": {
            "perspective": True,
            "distance": 2.2,
            "phi": 65,
            "thetaOffset": 55,
            "target": [0.4, 0.0, 1.0],
            "targetOffset": [0, 0, 0],
            "targetOrientation": [0, 0, 0, 1],
            "fovy": 45,
            "near": 0.05,
            "far": 100,
        },
        "scene": {"transforms": {"showLabel": False, "axisScale": 0, "lineWidth": 0}},
        "topics": {f"{root}/markers": {"visible": True}},
        "layers": {
            "grid": {"layerId": "foxglove.Grid", "instanceId": "grid", "visible": True, "size": 4}
        },
    }
    if task.joint_actions:
        panels["3D!robot"]["topics"][f"{root}/robot_description"] = {"visible": True}
    for camera in task.cameras:
        panels[f"Image!{camera}"] = {
            "imageMode": {
                "imageTopic": f"{root}/cameras/{camera}/image_raw",
                "calibrationTopic": f"{root}/cameras/{camera}/camera_info",
            }
        }
    for title, curves in plots(task).items():
        panels[f"Plot!{title.partition(',')[0].replace(' ', '_')}"] = {
            "title": title,
            "paths": [
                {
                    "value": f"{root}/{curve.replace('/', '.')}",
                    "label": curve,
                    "enabled": True,
                    "timestampMethod": "receiveTime",
                }
                for curve in curves
            ],
            "isSynced": True,
            "xAxisVal": "timestamp",
            "showLegend": True,
            "legendDisplay": "floating",
        }
    panels["DiagnosticSummary!nodes"] = {
        "topicToRender": "/diagnostics",
        "minLevel": 0,
        "pinnedIds": [],
        "hardwareIdFilter": "",
        "sortByLevel": True,
    }
    panels["RawMessages!safety"] = {
        "topicPath": f"{root}/safety_status",
        "diffEnabled": False,
    }
    panels["RawMessages!episode"] = {
        "topicPath": f"{root}/episode_state",
        "diffEnabled": False,
    }
    pictures = [name for name in panels if name.startswith("Image!")]
    curves_ = [name for name in panels if name.startswith("Plot!")]
    # A task may have no camera.
    scene: Any = "3D!robot"
    if pictures:
        scene = {
            "direction": "column",
            "first": scene,
            "second": _split("row", pictures),
            "splitPercentage": 65,
        }
    beside = ["RawMessages!safety", "RawMessages!episode", "DiagnosticSummary!nodes"]
    return {
        "configById": panels,
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": {
            "direction": "row",
            "first": scene,
            "second": {
                "direction": "row",
                "first": _split("column", curves_),
                "second": _split("column", beside),
                "splitPercentage": 60,
            },
            "splitPercentage": 50,
        },
    }


def _split(direction: str, names: Sequence[str]) -> Any:
    """Panels of equal size, as Foxglove's tree of pairs."""
    if len(names) == 1:
        return names[0]
    return {
        "direction": direction,
        "first": names[0],
        "second": _split(direction, names[1:]),
        "splitPercentage": 100 / len(names),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="woolly_ball_pnp")
    parser.add_argument("--namespace", default="")
    parser.add_argument("--out", type=Path, required=True, help="folder; a folder for each viewer")
    arguments = parser.parse_args()
    for path in write_viewer_files(
        arguments.out, get_task(arguments.task), arguments.namespace
    ).values():
        print(path)


if __name__ == "__main__":
    main()
