"""`ros2 topic`, `node`, `service` and `param`: looking at a running ROS graph."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import rclpy
import yaml
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)

from .messages import fill, interface_class, select_field, to_yaml

# Discovery has no end of its own: what has not answered by then counts as absent.
_DISCOVERY_S = 1.5
# A named node is waited for longer: on a busy machine its discovery was seen to take over 2.5 s.
_NODE_S = 5.0


@contextlib.contextmanager
def _node() -> Iterator[Node]:
    with rclpy.init(args=[]):
        node = rclpy.create_node(
            f"_ros2cli_{os.getpid()}", start_parameter_services=False, enable_rosout=False
        )
        try:
            yield node
        except ExternalShutdownException:
            raise KeyboardInterrupt from None
        finally:
            node.destroy_node()


def _spin_for(node: Node, seconds: float, until: Callable[[], Any] = lambda: None) -> bool:
    """Spin until `until()` is true or the time is over; whether it was."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if until():
            return True
        rclpy.spin_once(node, timeout_sec=0.05)
    return bool(until())


def _hidden(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("/"))


def _print_names(entries: list, show_types: bool) -> None:
    for name, types in sorted(entries):
        if not _hidden(name):
            print(f"{name} [{', '.join(types)}]" if show_types else name)


def _topic_types(node: Node, topic: str, seconds: float = _DISCOVERY_S) -> list[str]:
    found: list[str] = []

    def look() -> bool:
        found[:] = dict(node.get_topic_names_and_types()).get(topic, [])
        return bool(found)

    _spin_for(node, seconds, look)
    return found


def _absolute(name: str) -> str:
    return name if name.startswith("/") else f"/{name}"


# --- topic -----------------------------------------------------------------------------------


def _topic_list(args: argparse.Namespace) -> str | None:
    with _node() as node:
        _spin_for(node, _DISCOVERY_S)
        _print_names(node.get_topic_names_and_types(), args.show_types)
    return None


def _qos(args: argparse.Namespace, node: Node, topic: str) -> QoSProfile:
    """What was asked for, else what all publishers offer."""
    offered = [info.qos_profile for info in node.get_publishers_info_by_topic(topic)]
    reliable = bool(offered) and all(q.reliability == ReliabilityPolicy.RELIABLE for q in offered)
    lasting = bool(offered) and all(
        q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered
    )
    if args.qos_reliability is not None:
        reliable = args.qos_reliability == "reliable"
    if args.qos_durability is not None:
        lasting = args.qos_durability == "transient_local"
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=args.qos_depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if lasting else DurabilityPolicy.VOLATILE,
    )


def _topic_echo(args: argparse.Namespace) -> str | None:
    topic = _absolute(args.topic_name)
    with _node() as node:
        types = [args.message_type] if args.message_type else _topic_types(node, topic)
        if not types:
            return f"Could not determine the type for the passed topic '{topic}'"
        if len(types) > 1:
            return f"Cannot echo topic '{topic}', as it contains more than one type: {types}"
        done = False
        failure: list[str] = []

        def show(message: Any) -> None:
            nonlocal done
            if done:
                return
            try:
                value = select_field(message, args.field) if args.field else message
            except RuntimeError as exc:
                failure.append(str(exc))
                done = True
                return
            limit = None if args.full_length else args.truncate_length
            print(to_yaml(value, no_arr=args.no_arr, limit=limit), end="---\n")
            done = args.once

        node.create_subscription(
            interface_class(types[0], "msg"), topic, show, _qos(args, node, topic)
        )
        end = math.inf if args.timeout is None else time.monotonic() + args.timeout
        while not done and time.monotonic() < end:
            rclpy.spin_once(node, timeout_sec=0.1)
        if failure:
            return failure[0]
        if args.once and not done:
            return f"no message on '{topic}' within {args.timeout} s"
    return None


def rate_text(stamps: list[float]) -> str | None:
    """The rate of arrival times (s) as `ros2 topic hz` prints it; None below two of them."""
    gaps = [b - a for a, b in pairwise(stamps)]
    if not gaps:
        return None
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((g - mean) ** 2 for g in gaps) / len(gaps))
    rate = 1.0 / mean if mean > 0 else 0.0
    return (
        f"average rate: {rate:.3f}\n\tmin: {min(gaps):.3f}s max: {max(gaps):.3f}s "
        f"std dev: {deviation:.5f}s window: {len(gaps)}"
    )


def _topic_hz(args: argparse.Namespace) -> str | None:
    topic = _absolute(args.topic_name)
    with _node() as node:
        types: list[str] = []
        waiting = False
        while not types:
            types = _topic_types(node, topic)
            if not types and not waiting:
                print(f"WARNING: topic [{topic}] does not appear to be published yet")
                waiting = True
        stamps: list[float] = []

        def arrived(_message: Any) -> None:
            stamps.append(time.monotonic())
            del stamps[: -args.window_size - 1]

        # Raw: counting needs no decoding, which for images would bound the rate itself.
        node.create_subscription(
            interface_class(types[0], "msg"), topic, arrived, qos_profile_sensor_data, raw=True
        )
        printed: float | None = None
        next_print = time.monotonic() + 1.0
        while True:
            rclpy.spin_once(node, timeout_sec=max(0.0, next_print - time.monotonic()))
            if time.monotonic() < next_print:
                continue
            next_print += 1.0
            text = rate_text(stamps)
            if text is not None and stamps[-1] != printed:
                printed = stamps[-1]
                print(text)


def _topic_info(args: argparse.Namespace) -> str | None:
    topic = _absolute(args.topic_name)
    with _node() as node:
        _spin_for(node, _DISCOVERY_S)
        types = dict(node.get_topic_names_and_types()).get(topic)
        if not types:
            return f"Unknown topic '{topic}'"
        end = "\n\n" if args.verbose else "\n"
        print(f"Type: {types[0] if len(types) == 1 else types}", end=end)
        print(f"Publisher count: {node.count_publishers(topic)}", end=end)
        for info in node.get_publishers_info_by_topic(topic) if args.verbose else ():
            print(info, end=end)
        print(f"Subscription count: {node.count_subscribers(topic)}", end=end)
        for info in node.get_subscriptions_info_by_topic(topic) if args.verbose else ():
            print(info, end=end)
    return None


# --- node ------------------------------------------------------------------------------------


def _node_names(node: Node) -> list[str]:
    pairs = node.get_node_names_and_namespaces()
    return sorted(f"{ns.rstrip('/')}/{name}" for name, ns in pairs if not name.startswith("_"))


def _node_list(args: argparse.Namespace) -> str | None:
    with _node() as node:
        _spin_for(node, _DISCOVERY_S)
        print("".join(f"{name}\n" for name in _node_names(node)), end="")
    return None


def _node_info(args: argparse.Namespace) -> str | None:
    full = _absolute(args.node_name)
    with _node() as node:
        if not _spin_for(node, _DISCOVERY_S, lambda: full in _node_names(node)):
            return f"Unable to find node '{full}'"
        namespace, _, name = full.rpartition("/")
        print(full)
        for title, query in (
            ("Subscribers", node.get_subscriber_names_and_types_by_node),
            ("Publishers", node.get_publisher_names_and_types_by_node),
            ("Service Servers", node.get_service_names_and_types_by_node),
            ("Service Clients", node.get_client_names_and_types_by_node),
        ):
            print(f"  {title}:")
            for entry, types in sorted(query(name, namespace or "/")):
                print(f"    {entry}: {', '.join(types)}")
    return None


# --- service ---------------------------------------------------------------------------------


def _service_list(args: argparse.Namespace) -> str | None:
    with _node() as node:
        _spin_for(node, _DISCOVERY_S)
        _print_names(node.get_service_names_and_types(), args.show_types)
    return None


def _service_type(args: argparse.Namespace) -> str | None:
    name = _absolute(args.service_name)
    with _node() as node:
        _spin_for(node, _DISCOVERY_S, lambda: name in dict(node.get_service_names_and_types()))
        types = dict(node.get_service_names_and_types()).get(name)
        if not types:
            return f"Unknown service '{name}'"
        print("\n".join(types))
    return None


def _call(node: Node, kind: Any, name: str, request: Any, seconds: float) -> Any:
    """Call a service; None if it is not there within `seconds`."""
    client = node.create_client(kind, name)
    if not _spin_for(node, seconds, client.service_is_ready):
        return None
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future)
    if future.result() is None:
        raise RuntimeError(f"Exception while calling service: {future.exception()!r}")
    return future.result()


def _service_call(args: argparse.Namespace) -> str | None:
    kind = interface_class(args.service_type, "srv")
    request = kind.Request()
    try:
        values = yaml.safe_load(args.values)
    except yaml.YAMLError as exc:
        raise RuntimeError(f"request '{args.values}' is not valid YAML: {exc}") from exc
    try:
        fill(request, values)
    except RuntimeError as exc:
        return f"Failed to populate field: {exc}"
    with _node() as node:
        client = node.create_client(kind, args.service_name)
        if not client.service_is_ready():
            print("waiting for service to become available...")
            while not _spin_for(node, 1.0, client.service_is_ready):
                pass
        print(f"requester: making request: {request!r}\n")
        print(f"response:\n{_call(node, kind, args.service_name, request, 1.0)!r}\n")
    return None


# --- param -----------------------------------------------------------------------------------

_VALUE_LABELS = {
    0: "Parameter not set.", 1: "Boolean value is:", 2: "Integer value is:",
    3: "Double value is:", 4: "String value is:", 5: "Byte values are:", 6: "Boolean values are:",
    7: "Integer values are:", 8: "Double values are:", 9: "String values are:",
}  # fmt: skip


def _plain(value: Any) -> Any:
    """A parameter's value as Python's own types."""
    value = parameter_value_to_python(value)
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else value


@contextlib.contextmanager
def _node_with(target: str, seconds: float) -> Iterator[tuple[Node, str]]:
    """A node of ours, and the full name of the target once it is seen."""
    full = _absolute(target)
    with _node() as node:
        if not _spin_for(node, seconds + _NODE_S, lambda: full in _node_names(node)):
            raise RuntimeError("Node not found")
        yield node, full


def _required(answer: Any, full: str) -> Any:
    if answer is None:
        raise RuntimeError(f"Wait for service timed out waiting for parameter services for {full}")
    return answer


def _names_of(node: Node, full: str) -> list[str]:
    answer = _call(node, ListParameters, f"{full}/list_parameters", ListParameters.Request(), 5.0)
    return sorted(_required(answer, full).result.names)


def _values_of(node: Node, full: str, names: list[str]) -> list:
    request = GetParameters.Request(names=names)
    answer = _call(node, GetParameters, f"{full}/get_parameters", request, 5.0)
    return list(_required(answer, full).values)


def _param_list(args: argparse.Namespace) -> str | None:
    if args.node_name:
        with _node_with(args.node_name, args.timeout) as (node, full):
            print("".join(f"  {name}\n" for name in _names_of(node, full)), end="")
        return None
    with _node() as node:
        _spin_for(node, _DISCOVERY_S)
        for full in _node_names(node):
            try:
                names = _names_of(node, full)
            except RuntimeError as exc:
                print(exc, file=sys.stderr)
                continue
            print(f"{full}:\n" + "".join(f"  {name}\n" for name in names), end="")
    return None


def _param_get(args: argparse.Namespace) -> str | None:
    with _node_with(args.node_name, args.timeout) as (node, full):
        values = _values_of(node, full, [args.parameter_name])
        if not values:
            return "Parameter not set"
        label, value = _VALUE_LABELS[values[0].type], _plain(values[0])
        if args.hide_type:
            print(value)
        else:
            print(label if value is None else f"{label} {value}")
    return None


def _param_set(args: argparse.Namespace) -> str | None:
    try:
        value = yaml.safe_load(args.value)
    except yaml.YAMLError:
        value = args.value
    simple = isinstance(value, (bool, int, float, str, list))
    try:
        parameter = Parameter(args.parameter_name, value=value if simple else args.value)
    except (TypeError, ValueError) as exc:
        raise RuntimeError(f"value '{args.value}': not a parameter's value: {exc}") from exc
    with _node_with(args.node_name, args.timeout) as (node, full):
        request = SetParameters.Request(parameters=[parameter.to_parameter_msg()])
        answer = _call(node, SetParameters, f"{full}/set_parameters", request, 5.0)
        result = _required(answer, full).results[0]
    reason = f": {result.reason}" if result.reason else ""
    if not result.successful:
        return f"Setting parameter failed{reason}"
    print(f"Set parameter successful{reason}")
    return None


def _param_dump(args: argparse.Namespace) -> str | None:
    with _node_with(args.node_name, args.timeout) as (node, full):
        names = _names_of(node, full)
        values = [_plain(v) for v in _values_of(node, full, names)]
        tree: dict[str, Any] = {}
        for name, value in zip(names, values, strict=True):
            *groups, last = name.split(".")
            branch = tree
            for group in groups:
                branch = branch.setdefault(group, {})
            branch[last] = value
        print(yaml.safe_dump({full: {"ros__parameters": tree}}, default_flow_style=False), end="")
    return None


# --- parsing ---------------------------------------------------------------------------------


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text}")
    return value


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Declare topic, node, service and param with their verbs."""

    def group(name: str, text: str) -> Callable[..., argparse.ArgumentParser]:
        parser = commands.add_parser(name, help=text, description=text)
        parser.set_defaults(own_parser=parser)
        verbs = parser.add_subparsers(metavar="VERB", title="verbs")

        def verb(verb_name: str, call: Callable, verb_text: str, **kw: Any) -> Any:
            made = verbs.add_parser(verb_name, help=verb_text, description=verb_text, **kw)
            made.set_defaults(call=call)
            return made

        return verb

    verb = group("topic", "Topics: list, print, measure")
    p = verb("list", _topic_list, "List the topics that nodes publish or subscribe to")
    p.add_argument("-t", "--show-types", action="store_true", help="show their types too")
    p = verb("echo", _topic_echo, "Print a topic's messages as YAML, until Ctrl-C",
             epilog="example: ros2 topic echo /joint_states --field position --once")  # fmt: skip
    p.add_argument("topic_name", help="topic to listen to")
    p.add_argument("message_type", nargs="?", help="its type, if nobody publishes it yet")
    p.add_argument("--once", action="store_true", help="stop after one message")
    p.add_argument("--field", help="only this field, such as header.stamp or data[0]")
    p.add_argument("--no-arr", action="store_true", help="show arrays by type and length only")
    p.add_argument("-l", "--truncate-length", type=_positive, default=128,
                   help="cut longer arrays (default 128)")  # fmt: skip
    p.add_argument("-f", "--full-length", action="store_true", help="cut nothing")
    p.add_argument("--timeout", type=float, help="stop after so many seconds")
    p.add_argument("--qos-reliability", choices=("reliable", "best_effort"),
                   help="default: reliable if all publishers are")  # fmt: skip
    p.add_argument("--qos-durability", choices=("volatile", "transient_local"),
                   help="default: transient_local if all publishers are")  # fmt: skip
    p.add_argument("--qos-depth", type=_positive, default=10, help="queue length (default 10)")
    p = verb("hz", _topic_hz, "Print a topic's rate each second, by wall time, until Ctrl-C")
    p.add_argument("topic_name", help="topic to listen to")
    p.add_argument("-w", "--window", dest="window_size", type=_positive, default=10000,
                   help="number of messages to average over (default 10000)")  # fmt: skip
    p.add_argument("--wall-time", action="store_true", help="accepted; it is always so here")
    p = verb("info", _topic_info, "Print a topic's type and numbers of publishers and subscribers")
    p.add_argument("topic_name", help="topic to look at")
    p.add_argument("-v", "--verbose", action="store_true", help="show each end's node and QoS")

    verb = group("node", "Nodes: list, look into")
    verb("list", _node_list, "List the running nodes")
    p = verb("info", _node_info, "Print a node's topics and services")
    p.add_argument("node_name", help="full name of the node")

    verb = group("service", "Services: list, call")
    p = verb("list", _service_list, "List the services that nodes offer")
    p.add_argument("-t", "--show-types", action="store_true", help="show their types too")
    p = verb("type", _service_type, "Print a service's type")
    p.add_argument("service_name", help="service to look at")
    p = verb("call", _service_call, "Call a service, waiting for it to be there",
             epilog="ros2 service call /gate std_srvs/srv/SetBool '{data: true}'")  # fmt: skip
    p.add_argument("service_name", help="service to call")
    p.add_argument("service_type", help="its type, such as std_srvs/srv/Trigger")
    p.add_argument("values", nargs="?", default="{}", help="request in YAML (default {})")

    verb = group("param", "Parameters: list, get, set, dump")
    parsers = {}
    for name, call, text in (
        ("list", _param_list, "List the parameters of a node, or of all nodes"),
        ("get", _param_get, "Print a parameter's value"),
        ("set", _param_set, "Set a parameter; the value is read as YAML"),
        ("dump", _param_dump, "Print all parameters of a node as a parameter file"),
    ):
        p = parsers[name] = verb(name, call, text)
        nargs = {"nargs": "?"} if name == "list" else {}
        p.add_argument("node_name", help="full name of the node", **nargs)
        p.add_argument("--timeout", type=float, default=1.0, help="wait for the node, s")
    for name in ("get", "set"):
        parsers[name].add_argument("parameter_name", help="name of the parameter")
    parsers["get"].add_argument("--hide-type", action="store_true", help="print the value only")
    parsers["set"].add_argument("value", help="new value")
