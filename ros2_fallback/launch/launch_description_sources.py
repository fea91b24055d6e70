"""Reading launch files."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

from . import logging as launch_logging
from .core import LaunchContext, LaunchDescription, SomeSubstitutionsType, normalize, perform

__all__ = [
    "AnyLaunchDescriptionSource", "InvalidPythonLaunchFileError", "LaunchDescriptionSource",
    "PythonLaunchDescriptionSource", "get_launch_description_from_python_launch_file",
]  # fmt: skip


class InvalidPythonLaunchFileError(Exception):
    """The file has no generate_launch_description()."""


def get_launch_description_from_python_launch_file(path: str) -> LaunchDescription:
    """Run the file and return what its generate_launch_description() returns."""
    loader = SourceFileLoader("python_launch_file", path)
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    if not hasattr(module, "generate_launch_description"):
        raise InvalidPythonLaunchFileError(
            f"launch file '{path}' has no function generate_launch_description()"
        )
    return module.generate_launch_description()


class PythonLaunchDescriptionSource:
    """A launch file in Python, read once, when first needed."""

    def __init__(self, launch_file_path: SomeSubstitutionsType) -> None:
        self._parts = normalize(launch_file_path)
        self._expanded: str | None = None
        self._description: LaunchDescription | None = None

    @property
    def location(self) -> str:
        if self._expanded is not None:
            return self._expanded
        return " + ".join(part.describe() for part in self._parts)

    def get_launch_description(self, context: LaunchContext) -> LaunchDescription:
        if self._expanded is None:
            self._expanded = perform(context, self._parts)
        if self._description is None:
            self._description = get_launch_description_from_python_launch_file(self._expanded)
        return self._description

    def try_get_launch_description_without_context(self) -> LaunchDescription | None:
        """The description if the path needs nothing known only while launching, else None."""
        if self._description is None:
            try:
                path = perform(LaunchContext(), self._parts)
                self._description = get_launch_description_from_python_launch_file(path)
            except Exception as exc:
                launch_logging.get_logger("launch").debug(f"cannot look into an include: {exc}")
        return self._description


LaunchDescriptionSource = PythonLaunchDescriptionSource
AnyLaunchDescriptionSource = PythonLaunchDescriptionSource
