"""Typed configurations from strict YAML files."""

from resfit_rl.configuration.strict_yaml import (
    dataclass_from_mapping,
    load_dataclass,
    read_mapping,
)

__all__ = ["dataclass_from_mapping", "load_dataclass", "read_mapping"]
