"""A blind A/B test on the running graph: whose turn it is, its weights, and what became of it."""

from __future__ import annotations

from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray

from resfit_interfaces.msg import ActionCommand, EpisodeState, EpisodeStored, PolicyWeights
from resfit_rl.ab_test import BlindTest, BlindTestError, CommitmentError, RecordError, Terms, Turn
from resfit_rl.ab_test.blind_test import Policy
from resfit_rl.ab_test.policies import keep_weights, parse_policy
from resfit_rl.ab_test.report import TEXT, start_file, write_report
from resfit_rl.ab_test.simulated import write_pictures
from resfit_rl.ab_test.turn_weights import TurnWeights, turn_version
from resfit_rl.agent import PolicyFileError, load_agent_config
from resfit_rl.base_policies import BASE_POLICIES, BasePolicyError
from resfit_rl.episode_store import EpisodeStore
from resfit_rl.evaluation import Candidate, EvaluationError
from resfit_rl.tasks import get_task
from resfit_ros import qos
from resfit_ros.parameters import ConfigurationError, declare
from resfit_teleop_ui.labeler import OUTCOMES, Labeler


class BlindRounds:
    """What a labeler needs to run an A/B test; it stands in the learner's place.

    Before each rollout it publishes the weights whose turn it is, under a name that does not tell
    whose they are, and waits until the policy node has taken them over. The labeler starts the
    episode with `seed`, and reports its end.
    """

    def __init__(self, node: Labeler, labels: str) -> None:
        """Declares the test's parameters on `node`; ValueError when the test cannot be run."""
        self._node = node
        task = get_task(declare(node, "task", str, "Task, by name."))
        given: dict[Policy, str] = {
            "a": declare(node, "policy_a", "base", "base, run:DIR or weights:FILE."),
            "b": declare(node, "policy_b", str, "base, run:DIR or weights:FILE."),
        }
        kind = declare(node, "base_policy", "act", "The policy node's.", choices=BASE_POLICIES)
        path = declare(node, "base_policy_path", "", "The policy node's.")
        size = (
            declare(node, "image_height", 84, "pixels of every camera", range=(16, 4096)),
            declare(node, "image_width", 84, "pixels of every camera", range=(16, 4096)),
        )
        folder = Path(declare(node, "run_dir", str, "The graph's run directory: the record's."))
        alpha = declare(
            node, "alpha", 0.05, "Error probability of 'they differ'.", range=(1e-6, 0.5)
        )
        max_rounds = declare(node, "max_rounds", 50, "Rounds at most.", range=(1, 100000))
        seed = declare(node, "seed", 0, "Of the scenes.", range=(0, 2**31 - 1))
        agent_config = declare(
            node, "agent_config", str, "YAML file of the agent: shape of a residual that is 0."
        )
        base = Candidate(task.name, kind, path or None, image_size=size)
        try:
            candidates = {
                name: parse_policy(text, f"{kind}:{path}", base) for name, text in given.items()
            }
            for name, one in candidates.items():
                if (one.policy, one.path) != (kind, path or None):
                    raise ConfigurationError(
                        f"parameter 'policy_{name}': expected base, run:DIR or weights:FILE, for "
                        f"the policy node has one base policy, found {given[name]!r}"
                    )
                candidates[name] = keep_weights(one, folder / f"policy_{name}.safetensors")
            self._base_identity = base.identity()
            self._weights = TurnWeights(
                folder / "weights",
                task,
                task.agent_spec(size),
                self._base_identity,
                {name: one.residual for name, one in candidates.items()},
                load_agent_config(agent_config),
            )
            self._test = BlindTest(
                folder,
                Terms(
                    task=task.name,
                    implementation=task.implementation,
                    policy_a=candidates["a"].identity(),
                    policy_b=candidates["b"].identity(),
                    seed=seed,
                    labels=labels,
                    alpha=alpha,
                    max_rounds=max_rounds,
                    conditions={
                        "policy_a": given["a"],
                        "policy_b": given["b"],
                        "image_size": list(size),
                        "where": "the running graph",
                    },
                ),
            )
        except (
            BasePolicyError,
            BlindTestError,
            CommitmentError,
            EvaluationError,
            PolicyFileError,
            RecordError,
        ) as error:
            raise ConfigurationError(str(error)) from error
        self._task, self._folder = task, folder
        self._store = EpisodeStore(folder)
        self._policy: dict[str, str] = {}  # what the policy node's diagnostics say
        self._acted: set[int] = set()  # versions that acted in the episode under way
        self._acted_in = 0
        self._shown: dict[int, int] = {}  # episode -> round of whose scene it is the picture
        self._turn: Turn | None = None
        self._publisher = node.create_publisher(PolicyWeights, "policy_weights", qos.LATCHED)
        node.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.DIAGNOSTICS
        )
        node.create_subscription(ActionCommand, "action_command", self._on_command, qos.EVENT)
        node.create_subscription(EpisodeStored, "episode_stored", self._on_stored, qos.EVENT)
        self._prepare()

    @property
    def ended(self) -> bool:
        return self._turn is None

    @property
    def seed(self) -> int:
        """Of the scene of the rollout that is due."""
        assert self._turn is not None
        return self._turn.seed

    @property
    def due(self) -> str:
        """What the person needs to know of the rollout that is due."""
        if self._turn is None:
            return f"the test has ended: {self._test.ended}; {self._folder / TEXT}"
        text = f"round {self._turn.number}, {self._turn.which}"
        picture = start_file(self._folder, self._turn.number)
        if self._turn.which == "second" and picture.is_file():
            text += f": set the scene up as in {picture}"
        return text

    @property
    def problem(self) -> str:
        """Why the rollout that is due may not start yet; '' when it may."""
        if self._turn is None:
            return self.due
        if self._node.learner is not None:
            return "expected no learner beside an A/B test (learner:=false), found one"
        version = str(turn_version(self._turn))
        for key, expected in (
            ("base_policy", self._base_identity),
            ("noise", "none"),
            ("policy_version", version),
        ):
            found = self._policy.get(key, "nothing yet")
            if found != expected:
                return f"policy node: {key}: expected {expected}, found {found}"
        return ""

    def finished(self, state: EpisodeState) -> str:
        """Store the outcome of the due rollout's episode; a line that says what follows."""
        turn, outcome = self._turn, OUTCOMES[state.outcome]
        assert turn is not None
        acted = self._acted if self._acted_in == state.episode_id else set()
        if state.outcome == EpisodeState.OUTCOME_ABORTED:
            return f"{self.due}: aborted, to be repeated"
        if acted != {turn_version(turn)}:
            return (
                f"{self.due}: expected commands of version {turn_version(turn)} only, found "
                f"{sorted(acted)}: to be repeated"
            )
        if turn.which == "first":
            self._shown = {state.episode_id: turn.number}
        success = state.outcome == EpisodeState.OUTCOME_SUCCESS
        facts = {"steps": state.end_step, "outcome": outcome, "episode": state.episode_id}
        finished = self._test.record_label(turn, success, facts)
        self._prepare()
        if finished is None:
            return f"next is {self.due}"
        a, b = ("success" if one else "failure" for one in finished.pair)
        rounds = self._test.rounds
        return (
            f"round {finished.number}: A {a}, B {b}, {finished.first.upper()} was first; so far A "
            f"{sum(one.success_a for one in rounds)}, B {sum(one.success_b for one in rounds)} of "
            f"{len(rounds)}; {'' if self.ended else 'next is '}{self.due}"
        )

    def discard(self) -> str:
        """Throw the open round away; a line that says so."""
        number = self._turn.number if self._turn else 0
        self._test.discard("by the person at the keyboard")
        self._prepare()
        return f"round {number} discarded; next is {self.due}"

    def close(self) -> None:
        """Write the report of what there is, and let another process go on."""
        if self._test.rounds:
            write_report(self._folder)
        self._test.close()

    def _prepare(self) -> None:
        """Publish the weights of the turn that is due."""
        self._turn = self._test.next_turn()
        if self._turn is None:
            return
        publication = self._weights.publish(self._turn, self._test.unseal(self._turn))
        message = PolicyWeights(
            version=publication.version,
            task=self._task.name,
            path=str(publication.path.absolute()),
            sha256=publication.sha256,
            size_bytes=publication.size_bytes,
        )
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        name = f"{self._node.get_namespace().rstrip('/')}/policy"
        for status in message.status:
            if status.name == name:
                self._policy = {value.key: value.value for value in status.values}

    def _on_command(self, message: ActionCommand) -> None:
        if message.episode_id != self._acted_in:
            self._acted_in, self._acted = message.episode_id, set()
        self._acted.add(message.policy_version)

    def _on_stored(self, message: EpisodeStored) -> None:
        """Keep the first picture: the second rollout is to begin like that."""
        number = self._shown.pop(message.episode_id, 0)
        if number:
            images = self._store.read(message.episode_id).images
            first = {camera: pictures[0] for camera, pictures in images.items()}
            write_pictures(first, start_file(self._folder, number))
