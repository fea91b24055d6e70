"""A blind A/B test on the running graph of a simulation, labelled by the task's success check."""

from resfit_interfaces.msg import EpisodeState
from resfit_ros.run import ExitRequest, run_node
from resfit_teleop_ui.auto_labeler import AutoLabeler
from resfit_teleop_ui.blind_rounds import BlindRounds


class AbTestAuto(AutoLabeler):
    """Rollouts one after the other, until the test ends."""

    def __init__(self) -> None:
        super().__init__()
        self._rounds = BlindRounds(self, "automatic")
        self._say(f"next is {self._rounds.due}")

    def close(self) -> None:
        self._rounds.close()

    def _proceed(self) -> None:
        if self._rounds.ended:
            self._say(self._rounds.due)
            raise ExitRequest(0)
        if self.running:
            return
        if problem := self._rounds.problem:
            self._say(f"waiting: {problem}")
        else:
            super()._proceed()

    def next_seed(self) -> int | None:
        return self._rounds.seed

    def on_episode_end(self, state: EpisodeState) -> None:
        self._say(self._rounds.finished(state))


def main() -> int:
    return run_node(AbTestAuto)
