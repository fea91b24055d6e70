"""Off-policy learning of the residual: TD3 with an ensemble of critics (REDQ) on n-step returns."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from resfit_rl.agent.agent import Agent
from resfit_rl.agent.augmentation import shifted_frames
from resfit_rl.agent.batch import Batch
from resfit_rl.agent.config import AgentConfig
from resfit_rl.agent.draws import Draws, draw
from resfit_rl.agent.networks import Critic
from resfit_rl.agent.normaliser import Normaliser
from resfit_rl.agent.spec import AgentSpec
from resfit_rl.agent.speed import GraphedBlock, Speed

if TYPE_CHECKING:
    from resfit_rl.replay import ReplayBuffer


class ResidualTD3(Agent):
    """ResFiT's agent; without a base policy and with a residual scale of 1 it is RLPD's.

    An update is one of the critics; a block is `updates_per_block` of them and one of the actor, or
    critics alone until `critic_warmup_updates` are made. The encoder learns from the critics' loss
    only and has no target copy; the actor sees detached features.

    Nothing in a block is read by the CPU: its random numbers are drawn before, its metrics read
    after it, those of one block while the next one is under way.
    """

    critic: Critic
    # Names of what `_update` returns: of every update, and of those with the actor besides.
    _METRICS: ClassVar[tuple[str, ...]] = (
        "critic_loss", "q_mean", "target_mean", "critic_grad_norm", "encoder_grad_norm",
    )  # fmt: skip
    _ACTOR_METRICS: ClassVar[tuple[str, ...]] = ("actor_loss", "actor_grad_norm", "residual_norm")
    _MODULES: ClassVar[tuple[str, ...]] = (
        "encoder", "critic", "actor", "target_critic", "target_actor", "normaliser",
    )  # fmt: skip
    _OPTIMISERS: ClassVar[tuple[str, ...]] = (
        "encoder_optimiser", "critic_optimiser", "actor_optimiser",
    )  # fmt: skip

    def __init__(
        self,
        config: AgentConfig,
        spec: AgentSpec,
        normaliser: Normaliser,
        seed: int,
        device: torch.device | str = "cpu",
        speed: Speed | None = None,
    ) -> None:
        """`speed`: None for what suits the device."""
        super().__init__(config, spec, normaliser, seed, device)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.critic_optimiser = self._adam(self.critic, config.critic_lr)
        self.speed = speed or Speed.of(self.device)
        self._networks: dict[str, Any] = {
            name: torch.compile(module) if self.speed.compile else module
            for name, module in self._learned_networks().items()
        }
        # 1 from the first update on whose loss or gradient was not finite; the optimisers read it.
        self._bad = torch.zeros((), device=self.device)
        self._graphs: dict[tuple[int, bool, int], GraphedBlock] = {}

    def _build(self, patches: int) -> dict[str, nn.Module]:
        return {"critic": Critic(self.spec, self.config, patches)}

    def _learned_networks(self) -> dict[str, nn.Module]:
        names = ("encoder", "critic", "actor", "target_critic", "target_actor")
        return {name: getattr(self, name) for name in names}

    # -- blocks -----------------------------------------------------------------------------------

    def updates_owed(self, environment_steps: int, replay: ReplayBuffer) -> int:
        """None in the warm-up; then the critics' warm-up, and `utd_ratio` for each further step."""
        if self.warm_up(environment_steps):
            return 0
        if not replay.online_transitions + replay.offline_transitions:
            return 0
        steps = min(environment_steps, self.config.total_steps) - self.config.warmup_steps
        due = self.config.critic_warmup_updates + self.config.updates_for(max(0, steps))
        return max(0, due - self.updates)

    def update(self, replay: ReplayBuffer, blocks: int = 1) -> dict[str, float]:
        """See Agent.update.

        Returns:
            critic_loss, q_mean, target_mean, critic_grad_norm, encoder_grad_norm and, when the
            actor learned, actor_loss, actor_grad_norm, residual_norm (mean L2, normalised units).
        """
        under_way: tuple[int, int, bool, torch.Tensor] | None = None
        metrics: dict[str, float] = {}
        for _ in range(blocks):
            left = self.config.critic_warmup_updates - self.updates
            per_block = self.config.updates_per_block
            updates = min(per_block, left) if left > 0 else per_block
            values = self._start(replay, updates, learn_actor=left <= 0)
            block = (self.updates, updates, left <= 0, values)
            self.updates += updates
            if under_way is not None:
                metrics |= self._read(*under_way)
            under_way = block
        return metrics if under_way is None else metrics | self._read(*under_way)

    def _start(self, replay: ReplayBuffer, updates: int, learn_actor: bool) -> torch.Tensor:
        """Set a block going; (updates, metrics) on the device, or the same with the actor's row."""
        index = torch.stack([self._transitions(replay) for _ in range(updates)])
        draws = draw(self.generator, self.config, self.spec, updates)
        inputs = [draws.shift, draws.smoothing, draws.heads]
        at_hand = replay.device == self.device
        if at_hand:
            inputs.append(index)
        else:
            inputs += [t for row in index for t in _tensors(replay.gather(row))]
        inputs = [self._to_device(tensor) for tensor in inputs]

        def block(tensors: list[torch.Tensor]) -> torch.Tensor:
            draws = Draws(*tensors[:3])
            if at_hand:
                batches = [replay.gather(row) for row in tensors[3]]
            else:
                size = (len(tensors) - 3) // updates
                batches = [
                    _batch(tensors[3 + k * size : 3 + (k + 1) * size], list(self.spec.cameras))
                    for k in range(updates)
                ]
            return self._block(batches, draws, learn_actor)

        if not self.speed.cuda_graph:
            return block(inputs)
        key = (updates, learn_actor, id(replay))
        if key not in self._graphs:
            self._graphs[key] = GraphedBlock(block)
        return self._graphs[key](inputs)

    def _transitions(self, replay: ReplayBuffer) -> torch.Tensor:
        """Indices of one batch."""
        return replay.draw(self.generator, self.config.batch_size, self.config.offline_fraction)

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.device.type == "cuda" and not tensor.is_pinned():
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _block(self, batches: list[Batch], draws: Draws, learn_actor: bool) -> torch.Tensor:
        """All updates of a block: (len(batches), metrics), the actor's in the last columns."""
        rows = []
        for k, batch in enumerate(batches):
            last = k == len(batches) - 1
            rows.append(self._update(batch, draws.of(k), learn_actor and last))
        return torch.stack(rows)

    def _read(
        self, before: int, updates: int, learn_actor: bool, values: torch.Tensor
    ) -> dict[str, float]:
        """Metrics of a block that began with `before` updates made; waits for it."""
        names = self._METRICS + (self._ACTOR_METRICS if learn_actor else ())
        columns = dict(zip(names, values.cpu().unbind(dim=1), strict=False))
        bad = ~torch.stack(list(columns.values())).isfinite().all(dim=0)
        if bad.any():
            self.updates = before + int(bad.nonzero()[0])
        self._require_finite(columns, before + 1)
        metrics = {name: float(columns[name].mean()) for name in self._METRICS}
        if learn_actor:
            metrics |= {name: float(columns[name][-1]) for name in self._ACTOR_METRICS}
        return metrics

    # -- one update -------------------------------------------------------------------------------

    def _update(self, batch: Batch, draws: Draws, learn_actor: bool) -> torch.Tensor:
        """Critics, then the actor, then the targets; the metrics, 0 where the actor waits."""
        features, state = self._observe(batch.frames, batch.frame, batch.state, draws.shift[0])
        base = self._base(batch.base_action)
        action = self.normaliser.normalise_action(batch.action).clamp(-1.0, 1.0)
        target = self.target(batch, draws)
        loss, q = self.critic_loss(features, state, action, target)
        critic_norm, encoder_norm = self._step(
            loss, (self.critic, self.critic_optimiser), (self.encoder, self.encoder_optimiser)
        )
        metrics = [loss.detach(), q.detach().mean(), target.mean(), critic_norm, encoder_norm]
        if learn_actor:
            actor_loss, residual = self.actor_loss(features, state, base)
            (actor_norm,) = self._step(actor_loss, (self.actor, self.actor_optimiser))
            metrics += [actor_loss.detach(), actor_norm, residual.detach().norm(dim=-1).mean()]
            _polyak(self.target_actor, self.actor, self.config.tau)
        else:
            metrics += [torch.zeros_like(self._bad)] * len(self._ACTOR_METRICS)
        _polyak(self.target_critic, self.critic, self.config.tau)
        return torch.stack(metrics)

    def critic_loss(
        self,
        features: torch.Tensor,
        state: torch.Tensor,
        action: torch.Tensor,
        target: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean over heads of each head's MSE against `target` (B,), Q (E, B))."""
        q = self._network("critic", features, state, action)
        return (q - target[None]).square().mean(), q

    def actor_loss(
        self, features: torch.Tensor, state: torch.Tensor, base: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(-mean Q over heads and batch of the combined action, residual (B, A)).

        `features` are detached here, whatever the caller did.
        """
        features = features.detach()
        residual = self._network("actor", features, state, base)
        q = self._network("critic", features, state, (base + residual).clamp(-1.0, 1.0))
        return -q.mean(), residual

    @torch.no_grad()
    def target(self, batch: Batch, draws: Draws) -> torch.Tensor:
        """(B,): n-step reward + discount * minimum over a random subset of target heads."""
        features, state = self._observe(
            batch.frames, batch.next_frame, batch.next_state, draws.shift[1]
        )
        q = self._next_q(features, state, self._base(batch.next_base_action), draws)
        return batch.reward + batch.discount * q

    def _next_q(
        self, features: torch.Tensor, state: torch.Tensor, base: torch.Tensor, draws: Draws
    ) -> torch.Tensor:
        """(B,): value of the smoothed target policy's action."""
        limit = self.config.noise_clip
        noise = (draws.smoothing * self.config.exploration_std).clamp(-limit, limit)
        residual = self._network("target_actor", features, state, base) + noise
        return self._target_q(features, state, (base + residual).clamp(-1.0, 1.0), draws)

    def _target_q(
        self, features: torch.Tensor, state: torch.Tensor, action: torch.Tensor, draws: Draws
    ) -> torch.Tensor:
        """(B,): minimum over the drawn target heads."""
        q = self._network("target_critic", features, state, action)
        return q.index_select(0, draws.heads).amin(dim=0)

    def _observe(
        self,
        frames: dict[str, torch.Tensor],
        frame: torch.Tensor,
        state: torch.Tensor,
        shift: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, P, C) of the shifted images, and the normalised state (B, S)."""
        images = {
            name: shifted_frames(frames[name], frame, shift[k], self.config.shift_pad)
            for k, name in enumerate(self.spec.cameras)
        }
        return self._network("encoder", images), self.normaliser.normalise_state(state)

    def _network(self, name: str, *inputs: Any) -> torch.Tensor:
        """Output of a network, float32, whatever it computes in."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.speed.autocast):
            output: torch.Tensor = self._networks[name](*inputs)
        return output.float()

    def _step(
        self, loss: torch.Tensor, *learners: tuple[nn.Module, torch.optim.Adam]
    ) -> list[torch.Tensor]:
        """Gradients of `loss` to these modules alone, clipped one by one, and a step.

        No step is made from the first value on that is not finite: the optimisers skip it where
        `found_inf` is 1, as torch's gradient scaler has them do. Gradient norms, on the device.
        """
        parameters = [list(module.parameters()) for module, _ in learners]
        gradients = iter(torch.autograd.grad(loss, [p for group in parameters for p in group]))
        norms = []
        for group in parameters:
            for parameter in group:
                gradient = next(gradients)
                # Convolutions' come in another memory layout, which the fused Adam does not notice.
                if gradient.stride() != parameter.stride():
                    gradient = torch.empty_like(parameter).copy_(gradient)
                parameter.grad = gradient
            norms.append(nn.utils.clip_grad_norm_(group, self.config.grad_clip))
        finite = torch.stack([loss.detach(), *norms]).isfinite().all()
        self._bad.copy_(torch.maximum(self._bad, 1.0 - finite.float()))
        for _, optimiser in learners:
            optimiser.found_inf = self._bad  # type: ignore[attr-defined]
            optimiser.step()
        return norms

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Agent.load_state_dict."""
        super().load_state_dict(state)
        self._bad.zero_()
        # The optimisers' tensors are others now than those that were recorded.
        self._graphs.clear()


@torch.no_grad()
def _polyak(target: nn.Module, source: nn.Module, tau: float) -> None:
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)


_PLAIN = (
    "frame", "next_frame", "state", "next_state", "base_action", "next_base_action", "action",
    "reward", "discount",
)  # fmt: skip


def _tensors(batch: Batch) -> list[torch.Tensor]:
    return [getattr(batch, name) for name in _PLAIN] + list(batch.frames.values())


def _batch(tensors: list[torch.Tensor], cameras: list[str]) -> Batch:
    """Inverse of _tensors."""
    plain = dict(zip(_PLAIN, tensors, strict=False))
    frames = dict(zip(cameras, tensors[len(_PLAIN) :], strict=True))
    return Batch(frames=frames, **plain)
