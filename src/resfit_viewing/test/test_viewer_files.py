"""Files of viewers: they parse, and what they name is in the graph."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from resfit_rl.tasks import get_task, task_names
from resfit_viewing.topics import topics_of
from resfit_viewing.viewer_files import FILES, viewer_files, write_viewer_files

CONFIG = Path(__file__).parents[3] / "config"


def fields_of(kind, path):
    """Walk 'a/b[0]' through a message class; AssertionError where a field is not there."""
    message = kind()
    for part in path:
        name, bracket, _ = part.partition("[")
        assert hasattr(message, name), f"{kind.__name__}: no field {name}"
        message = getattr(message, name)
        assert not bracket or hasattr(message, "__len__"), f"{kind.__name__}.{name}: no array"
    return message


@pytest.fixture(params=["woolly_ball_pnp", "can", "box_cleanup"])
def task(request):
    return get_task(request.param)


@pytest.fixture(params=["", "/robot_1"])
def root(request):
    return request.param


@pytest.fixture
def graph_topics(task, root):
    return {
        t.name if t.name.startswith("/") else f"{root}/{t.name}": t.kind for t in topics_of(task)
    }


def test_those_in_config_are_vegas():
    for viewer, text in viewer_files(get_task("woolly_ball_pnp")).items():
        assert (CONFIG / FILES[viewer]).read_text() == text, (
            "make them anew: python -m resfit_viewing.viewer_files --out config"
        )


def test_rviz(task, root, graph_topics):
    displays = yaml.safe_load(viewer_files(task, root)["rviz"])["Visualization Manager"]["Displays"]
    wanted = {
        "MarkerArray": "visualization_msgs",
        "Image": "sensor_msgs",
        "Wrench": "geometry_msgs",
        "RobotModel": "std_msgs",
    }
    kinds = []
    for display in displays:
        kind = display["Class"].removeprefix("rviz_default_plugins/")
        kinds.append(kind)
        topic = display.get("Topic") or display.get("Description Topic")
        if topic is not None:
            found = graph_topics[topic["Value"]]
            assert found.__module__.startswith(wanted[kind])
    assert kinds.count("Image") == len(task.cameras)
    assert kinds.count("Wrench") == len(task.wrists)
    assert kinds.count("MarkerArray") == 1
    assert ("RobotModel" in kinds) == bool(task.joint_actions)


def test_rqt(task, root, graph_topics):
    perspective = json.loads(viewer_files(task, root)["rqt"])
    manager = perspective["groups"]["pluginmanager"]
    running = ast.literal_eval(manager["keys"]["running-plugins"]["repr"])
    assert set(running) == {
        "rqt_plot/Plot",
        "rqt_image_view/ImageView",
        "rqt_robot_monitor/RobotMonitor",
    }
    names = {f"plugin__{p.replace('/', '__')}__{n}" for p, ns in running.items() for n in ns}
    assert names == set(manager["groups"])
    plotted = []
    for name, group in manager["groups"].items():
        keys = group["groups"]["plugin"]["keys"]
        values = {key: ast.literal_eval(value["repr"]) for key, value in keys.items()}
        if "rqt_plot" in name:
            topics = values["topics"]
            plotted += [topics] if isinstance(topics, str) else topics
        elif "image_view" in name:
            assert values["topic"] in graph_topics
    for curve in plotted:
        topic = max((t for t in graph_topics if curve.startswith(f"{t}/")), key=len)
        value = fields_of(graph_topics[topic], curve.removeprefix(f"{topic}/").split("/"))
        assert isinstance(value, float) or hasattr(value, "__len__")
    for what in ("force[0]", "residual_norm", "q_mean", "success_rate", "latency"):
        assert any(curve.endswith(what) for curve in plotted), what


def test_foxglove(task, root, graph_topics):
    layout = json.loads(viewer_files(task, root)["foxglove"])
    panels = layout["configById"]

    def placed(node):
        return [node] if isinstance(node, str) else placed(node["first"]) + placed(node["second"])

    assert sorted(placed(layout["layout"])) == sorted(panels)
    for name, panel in panels.items():
        kind = name.partition("!")[0]
        if kind == "Plot":
            for path in panel["paths"]:
                topic, *fields = path["value"].split(".")
                assert topic in graph_topics
                fields_of(graph_topics[topic], fields)
        elif kind == "Image":
            assert set(panel["imageMode"].values()) <= set(graph_topics)
        elif kind == "3D":
            assert set(panel["topics"]) <= set(graph_topics)
        else:
            assert panel.get("topicPath") or panel["topicToRender"] in graph_topics


def test_every_task_has_files(tmp_path):
    for name in task_names():
        paths = write_viewer_files(tmp_path / name, get_task(name), "/robot_1")
        assert set(paths) == {"rviz", "rqt", "foxglove"}
        for path in paths.values():
            assert "/robot_1/" in path.read_text()
            assert not re.search(r'"/(?!robot_1/|diagnostics)\w+/', path.read_text())
