"""Node `foxglove_view`: a server for the Foxglove app, on machines without foxglove_bridge too."""

import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

from resfit_rl.robots.vega import vega_description
from resfit_rl.tasks import Task, get_task
from resfit_ros.parameters import ConfigurationError, declare
from resfit_viewing.episode_files import header_stamp
from resfit_viewing.message_definitions import message_definition, type_name
from resfit_viewing.observer import Observer, run_observer
from resfit_viewing.topics import Topic, topics_of


class FoxgloveView(Observer):
    """Hands messages on as they come, without decoding them; no client can send anything."""

    def __init__(self) -> None:
        super().__init__("foxglove_view")
        task = get_task(declare(self, "task", str, "task, for example square"))
        host = declare(
            self, "host", "127.0.0.1", "address to listen at; 0.0.0.0: other machines may watch"
        )
        port = declare(self, "port", 8765, "port to listen at", range=(1, 65535))
        try:
            import foxglove
        except ImportError:
            raise ConfigurationError(
                "viewer foxglove: expected the package foxglove-sdk, found none: "
                "pip install foxglove-sdk"
            ) from None
        self._foxglove = foxglove
        meshes = _mesh_folder(task)
        try:
            self._server = foxglove.start_server(
                name="resfit",
                host=host,
                port=port,
                asset_handler=lambda uri: _mesh(uri, meshes),
            )
        except (OSError, RuntimeError) as error:
            raise ConfigurationError(
                f"parameter 'port': expected a free one at {host}, found {port}: {error}"
            ) from None
        self._messages = 0
        for topic in topics_of(task):
            self._follow(topic)
        self.get_logger().info(f"open ws://{host}:{port} in Foxglove")

    def _follow(self, topic: Topic) -> None:
        name = type_name(topic.kind)
        channel = self._foxglove.Channel(
            self.resolve_topic_name(topic.name),
            schema=self._foxglove.Schema(
                name=name, encoding="ros2msg", data=message_definition(name).encode()
            ),
            message_encoding="cdr",
        )

        def on_message(data: bytes) -> None:
            self._messages += 1
            now = self.get_clock().now().nanoseconds
            channel.log(data, log_time=header_stamp(data) if topic.stamped else now)

        self.create_subscription(topic.kind, topic.name, on_message, topic.profile, raw=True)

    def close(self) -> None:
        self._server.stop()

    def diagnostic_values(self) -> dict[str, object]:
        return {"messages": self._messages}


def _mesh_folder(task: Task) -> Path | None:
    return vega_description().urdf.parent.resolve() if task.joint_actions else None


def _mesh(uri: str, folder: Path | None) -> bytes | None:
    """The file at a file:// address within `folder`; no other file leaves this machine."""
    path = Path(unquote(urlparse(uri).path)).resolve()
    if folder is None or not path.is_relative_to(folder) or not path.is_file():
        return None
    return path.read_bytes()


def main() -> int:
    return run_observer(FoxgloveView)


if __name__ == "__main__":
    sys.exit(main())
