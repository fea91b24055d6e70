"""Substitutions that look packages up in the ament index."""

from __future__ import annotations

import os
import shutil

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch.core import (
    LaunchContext,
    SomeSubstitutionsType,
    Substitution,
    SubstitutionFailure,
    normalize,
    perform,
)

__all__ = ["ExecutableInPackage", "FindPackagePrefix", "FindPackageShare"]


class FindPackagePrefix(Substitution):
    """The install prefix of a package; PackageNotFoundError if there is none."""

    def __init__(self, package: SomeSubstitutionsType) -> None:
        self.package = normalize(package)

    def describe(self) -> str:
        return f"{type(self).__name__}(pkg={' + '.join(p.describe() for p in self.package)})"

    def perform(self, context: LaunchContext) -> str:
        return get_package_prefix(perform(context, self.package))


class FindPackageShare(FindPackagePrefix):
    """The share folder of a package."""

    def perform(self, context: LaunchContext) -> str:
        return get_package_share_directory(perform(context, self.package))


class ExecutableInPackage(FindPackagePrefix):
    """Path of an executable in a package's lib/<package> folder."""

    def __init__(self, executable: SomeSubstitutionsType, package: SomeSubstitutionsType) -> None:
        super().__init__(package)
        self.executable = normalize(executable)

    def describe(self) -> str:
        package = " + ".join(part.describe() for part in self.package)
        executable = " + ".join(part.describe() for part in self.executable)
        return f"ExecInPkg(pkg={package}, exec={executable})"

    def perform(self, context: LaunchContext) -> str:
        package, executable = perform(context, self.package), perform(context, self.executable)
        prefix = super().perform(context)
        folder = os.path.join(prefix, "lib", package)
        if not os.path.exists(folder):
            raise SubstitutionFailure(
                f"package '{package}' found at '{prefix}', but libexec directory '{folder}' "
                "does not exist"
            )
        found = shutil.which(executable, path=folder)
        if found is None:
            raise SubstitutionFailure(
                f"executable '{executable}' not found on the libexec directory '{folder}' "
            )
        return found
