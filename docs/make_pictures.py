"""Pictures of the running graph for the README: python docs/make_pictures.py TASK [--graph].

Writes docs/cameras_TASK.png from one observation on the image topics and, with --graph,
docs/graph.dot from what the nodes publish and subscribe; Graphviz draws it:
dot -Tpng docs/graph.dot -o docs/graph.png
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from PIL import Image as Picture
from rclpy.node import Node
from sensor_msgs.msg import Image

from resfit_rl.tasks import get_task
from resfit_ros import qos
from resfit_ros.conversions import image_to_array

HERE = Path(__file__).parent
# What every node has, and what only viewers read.
LEFT_OUT = ("/parameter_events", "/rosout", "/clock", "/heartbeat", "/diagnostics")


def spin(node: Node, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)


def cameras(node: Node, task: str) -> None:
    names = get_task(task).cameras
    newest: dict[str, Image] = {}
    for name in names:
        topic = f"cameras/{name}/image_raw"
        node.create_subscription(
            Image, topic, lambda m, name=name: newest.__setitem__(name, m), qos.SENSOR
        )
    spin(node, 10.0)
    if missing := [name for name in names if name not in newest]:
        sys.exit(f"error: camera {missing[0]}: expected an image within 10 s, found none")
    row = np.concatenate([image_to_array(newest[name], name) for name in names], axis=1)
    picture = Picture.fromarray(row).resize((4 * row.shape[1], 4 * row.shape[0]), Picture.NEAREST)
    picture.save(HERE / f"cameras_{task}.png")


def graph(node: Node) -> None:
    spin(node, 3.0)
    lines = ["digraph resfit {", "rankdir=LR; fontname=sans; nodesep=0.15; ranksep=0.9;"]
    own = node.get_name()
    for topic, _ in sorted(node.get_topic_names_and_types()):
        writers = {i.node_name for i in node.get_publishers_info_by_topic(topic)} - {own}
        readers = {i.node_name for i in node.get_subscriptions_info_by_topic(topic)} - {own}
        if topic in LEFT_OUT or not writers or not readers:
            continue
        lines.append(f'"{topic}" [shape=box, fontname=monospace, fontsize=10, color=gray];')
        for name in writers | readers:
            lines.append(f'"{name}" [shape=ellipse, style=filled, fillcolor=lightblue];')
        lines += [f'"{name}" -> "{topic}" [color=gray40];' for name in sorted(writers)]
        lines += [f'"{topic}" -> "{name}" [color=gray40];' for name in sorted(readers)]
    (HERE / "graph.dot").write_text("\n".join([*dict.fromkeys(lines), "}"]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", help="task that the graph runs")
    parser.add_argument("--graph", action="store_true", help="also write docs/graph.dot")
    chosen = parser.parse_args()
    with rclpy.init():
        node = rclpy.create_node("pictures")
        cameras(node, chosen.task)
        if chosen.graph:
            graph(node)


if __name__ == "__main__":
    main()
