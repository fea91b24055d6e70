import subprocess
import sys

import pytest

from resfit_rl.base_policies import BasePolicyError, base_policy_identity, load_base_policy
from resfit_rl.tasks import get_task

SQUARE = get_task("square")


def test_scripted_expert_has_the_announced_identity():
    policy = load_base_policy("scripted", SQUARE)
    assert policy.identity == base_policy_identity("scripted", SQUARE)
    assert policy.chunk_size == 1


@pytest.mark.parametrize("load", [load_base_policy, base_policy_identity])
def test_unknown_kind_is_refused(load):
    with pytest.raises(BasePolicyError, match=r"expected one of act, scripted.*, found 'other'"):
        load("other", SQUARE)


@pytest.mark.parametrize("kind", ["act", "replayed"])
@pytest.mark.parametrize("load", [load_base_policy, base_policy_identity])
def test_missing_file_is_named(load, kind, tmp_path):
    with pytest.raises(BasePolicyError, match=f"{tmp_path}/absent"):
        load(kind, SQUARE, tmp_path / "absent")


def test_heavy_libraries_are_imported_only_where_needed():
    check = (
        "import sys; from resfit_rl.base_policies import load_base_policy; "
        "print([m for m in ('lerobot', 'robosuite', 'torchvision') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", check], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "[]"
