"""A blind A/B test on the running graph, labelled at a keyboard."""

import sys

from resfit_interfaces.msg import EpisodeState
from resfit_interfaces.srv import LabelEpisode
from resfit_ros.run import run_node
from resfit_teleop_ui.blind_rounds import BlindRounds
from resfit_teleop_ui.keyboard_labeler import KeyboardLabeler

DISCARD = "d"


class AbTestKeyboard(KeyboardLabeler):
    """The keyboard labeler, with rollouts in a secret order; d discards a round."""

    def __init__(self) -> None:
        super().__init__()
        self._discarding = 0  # episode that is aborted for it
        try:
            self._rounds = BlindRounds(self, "keyboard")
        except BaseException:
            self._terminal.close()
            raise
        self._say(f"{self._rounds.due}; space to roll out, {DISCARD} discards the round")

    def close(self) -> None:
        super().close()
        self._rounds.close()

    def _press(self, key: str) -> None:
        if key == DISCARD and not self._question:
            self._ask("discard this round, both rollouts?", self._discard)
        else:
            super()._press(key)

    def _discard(self) -> None:
        if self.running:
            self._discarding = self.episode.episode_id
            self._label(LabelEpisode.Request.ABORT)
        elif not self._rounds.ended:
            self._say(self._rounds.discard())

    def _roll_out(self) -> None:
        problem = "" if self.running else self._rounds.problem
        if problem:
            self._say(f"not yet: {problem}")
        else:
            super()._roll_out()

    def next_seed(self) -> int | None:
        return self._rounds.seed

    def on_episode_end(self, state: EpisodeState) -> None:
        if state.episode_id == self._discarding:
            self._say(self._rounds.discard())
        else:
            self._say(self._rounds.finished(state))


def main() -> int:
    sys.argv += ["--ros-args", "--disable-stdout-logs"]
    return run_node(AbTestKeyboard)
