"""The form of a cell: refused as long as it is not filled in."""

import re

import pytest
from neighbours import FORM

from resfit_safety.vega_cell import load_vega_cell


def test_each_empty_entry_is_named_until_all_are_filled_in(tmp_path):
    file = tmp_path / "cell.yaml"
    text = FORM.read_text()
    for place, value, error in (
        ("torso: []", "torso: [0.5, 1.8, 1.3]", "torso: expected 3 numbers, found []"),
        ("center: []", "center: [0.66, 0.0, 0.825]", "boxes[0]: center: expected 3 numbers"),
        ("size: []", "size: [0.66, 1.3, 0.04]", "boxes[0]: size: expected 3 numbers"),
        ("center: []", "center: [0.7, -0.45, 0.9]", "boxes[1]: center: expected 3 numbers"),
        ("size: []", "size: [0.25, 0.25, 0.12]", "boxes[1]: size: expected 3 numbers"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=re.escape(error)):
            load_vega_cell(file, 0.05)
        text = text.replace(place, value, 1)
    file.write_text(text)
    cell = load_vega_cell(file, 0.05)
    # Below what the SDK refuses by itself.
    assert max(cell.motion_limits.measured_step[:14]) < 0.3
