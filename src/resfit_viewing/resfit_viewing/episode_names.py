"""Words for the numbers in EpisodeState."""

from resfit_interfaces.msg import EpisodeState

_CONSTANTS = {name: getattr(EpisodeState, name) for name in (
    "IDLE", "RESETTING", "RUNNING", "PAUSED", "FINISHED",
    "OUTCOME_NONE", "OUTCOME_SUCCESS", "OUTCOME_FAILURE", "OUTCOME_SAFETY_STOP",
    "OUTCOME_TIMEOUT", "OUTCOME_ABORTED",
)}  # fmt: skip
OUTCOMES = {
    value: name.removeprefix("OUTCOME_").lower().replace("_", " ")
    for name, value in _CONSTANTS.items()
    if name.startswith("OUTCOME_")
}
STATES = {
    value: name.lower() for name, value in _CONSTANTS.items() if not name.startswith("OUTCOME_")
}
