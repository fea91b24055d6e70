"""Writes docs/parameters.md from the nodes' sources: python docs/list_parameters.py."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
NODES = {
    "sim_bridge": "resfit_sim_bridge",
    "policy": "resfit_policy",
    "safety_monitor": "resfit_safety",
    "episode_supervisor": "resfit_safety",
    "episode_recorder": "resfit_learner",
    "learner": "resfit_learner",
    "auto_labeler": "resfit_teleop_ui",
    "keyboard_labeler": "resfit_teleop_ui",
    "ab_test_auto": "resfit_teleop_ui",
    "ab_test_keyboard": "resfit_teleop_ui",
    "vega_driver": "resfit_vega",
    "zed_camera": "resfit_cameras",
    "opencv_camera": "resfit_cameras",
    "rerun_view": "resfit_viewing",
    "foxglove_view": "resfit_viewing",
    "markers": "resfit_viewing",
    "episode_mcap": "resfit_viewing",
}
# Modules whose parameters a node has besides those of its own.
_CAMERA = "resfit_cameras/resfit_cameras/camera_node.py"
_DRAWING = "resfit_viewing/resfit_viewing/drawing.py"
_BLIND_ROUNDS = "resfit_teleop_ui/resfit_teleop_ui/blind_rounds.py"
_TIMING = "resfit_ros/resfit_ros/observation.py"
SHARED = {
    "zed_camera": _CAMERA,
    "opencv_camera": _CAMERA,
    "rerun_view": _DRAWING,
    "markers": _DRAWING,
    "ab_test_auto": _BLIND_ROUNDS,
    "ab_test_keyboard": _BLIND_ROUNDS,
    "policy": _TIMING,
    "episode_recorder": _TIMING,
}


def _text(node: ast.expr) -> str:
    """A literal, or a formatted one with its expressions in angle brackets."""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else f"<{ast.unparse(part.value)}>"
            for part in node.values
        )
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)


def rows(source: str) -> list[tuple[str, str, str, str]]:
    """(name, default, values, meaning) of each declare(node, name, default, meaning, ...)."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "declare"):
            continue
        name, default, meaning = (_text(argument) for argument in call.args[1:4])
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        values = options.get("range") or options.get("choices") or ""
        default = {"str": "must be given", "": "''"}.get(default, default)
        found.append((call.lineno, name, default, values, meaning))
    return [row[1:] for row in sorted(found)]


def document() -> str:
    lines = ["# Parameters of the nodes", "", "Made by `python docs/list_parameters.py`."]
    for node, package in NODES.items():
        modules = [f"{package}/{package}/{node}.py", *([SHARED[node]] if node in SHARED else [])]
        lines += ["", f"## {node} ({package})", "", "| name | default | values | meaning |"]
        lines.append("| --- | --- | --- | --- |")
        for module in modules:
            source = (ROOT / "src" / module).read_text()
            lines += [f"| `{n}` | {d} | {v} | {m} |" for n, d, v, m in rows(source)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "parameters.md").write_text(document())
