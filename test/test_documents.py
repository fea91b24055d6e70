"""What the documents say of the sources is so."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_parameters_are_those_of_the_nodes():
    spec = importlib.util.spec_from_file_location("listing", ROOT / "docs" / "list_parameters.py")
    listing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(listing)
    assert (ROOT / "docs" / "parameters.md").read_text() == listing.document()
