"""Speed of learning, of the residual's inference and of the replay, side by side in one run.

    ./resfit bench learner                                              (CPU, small networks)
    ./resfit bench learner device:=cuda agent_config:=config/agents/can.yaml    (GPU, the paper's)

Data are random frames of two 84x84 cameras. Each figure is the best of a few repetitions, as other
work on the machine only ever makes one slower. The floor is the larger of two times: the floating
point operations of a block (counted by torch's flop counter) at the rate of a large matrix product
measured here, and the bytes that cannot be avoided (weights, gradients and optimiser states once
in and out, and the batch's frames) at the rate of a large copy measured here.
"""

import argparse
import dataclasses
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict
from torch.utils.flop_counter import FlopCounterMode
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

from resfit_rl.agent import AgentConfig, AgentSpec, Normaliser, ResidualTD3, Speed
from resfit_rl.agent.config import load_agent_config
from resfit_rl.agent.draws import draw
from resfit_rl.episode_store import Episode, EpisodeStore
from resfit_rl.replay import ReplayBuffer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src/resfit_rl/test"))
from reference_agent import ReferenceAgent  # noqa: E402

TABLES = ["learning", "inference", "replay", "disk"]
SIZE, STATE, ACTION, STEPS = (84, 84), 9, 7, 100
SPEC = AgentSpec(
    {"agentview": SIZE, "robot0_eye_in_hand": SIZE},
    STATE,
    ACTION,
    -np.ones(ACTION, np.float32),
    np.ones(ACTION, np.float32),
)


def episode(number: int) -> Episode:
    rng = np.random.default_rng(number)
    frames = {name: rng.integers(0, 256, (STEPS + 1, *SIZE, 3), np.uint8) for name in SPEC.cameras}

    def unit(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(np.float32)

    return Episode(
        "bench", "bench", "bench", number, number, "success", 1.0, True, frames,
        unit(STEPS + 1, STATE), unit(STEPS + 1, ACTION), unit(STEPS, ACTION),
        np.zeros(STEPS, np.int64), np.arange(STEPS + 1),
    )  # fmt: skip


def replay(config: AgentConfig, episodes: int, device: str, pinned: bool = False) -> ReplayBuffer:
    """Half of the episodes are demonstrations."""
    offline = [episode(k) for k in range(episodes // 2)]
    buffer = ReplayBuffer(
        SPEC, STEPS * episodes, config.n_step, config.gamma, offline, device, pinned=pinned
    )
    for k in range(episodes // 2, episodes):
        buffer.add(episode(k))
    return buffer


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def rate(work: Callable[[], int], device: str, seconds: float) -> float:
    """Units a second of `work`, which gives the units that it did: the best of five spells."""
    best = 0.0
    for _ in range(5):
        wait(device)
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / 5:
            done += work()
        wait(device)
        best = max(best, done / (time.perf_counter() - start))
    return best


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n")
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |", flush=True)


# -- the floor ------------------------------------------------------------------------------------


def hardware(device: str, speed: Speed) -> tuple[float, float]:
    """FLOP/s of a large matrix product and bytes/s of a large copy, as the agent computes."""
    dtype = torch.bfloat16 if speed.autocast else torch.float32
    edge = 8192 if device == "cuda" else 1024
    a = torch.randn(edge, edge, device=device, dtype=dtype)
    out = torch.empty_like(a)
    repeats = 10

    def product() -> int:
        for _ in range(repeats):
            torch.mm(a, a, out=out)
        wait(device)
        return repeats

    source = torch.empty(2**30 if device == "cuda" else 2**27, dtype=torch.uint8, device=device)
    source.zero_()
    target = torch.empty_like(source)

    def copy() -> int:
        for _ in range(repeats):
            target.copy_(source)
        wait(device)
        return repeats

    flops = rate(product, device, 2.0) * 2 * edge**3
    return flops, rate(copy, device, 2.0) * 2 * source.nbytes


def block_cost(config: AgentConfig) -> tuple[float, float]:
    """FLOPs and least bytes of a block of utd_ratio updates, the actor's included."""
    agent = ResidualTD3(
        config, SPEC, Normaliser.from_spec(SPEC), 0, speed=Speed(False, False, False)
    )
    buffer = replay(config, 2, "cpu")
    batch = buffer.gather(buffer.draw(agent.generator, config.batch_size, config.offline_fraction))
    drawn = draw(agent.generator, config, SPEC, 1).of(0)
    flops = []
    for learn_actor in (False, True):
        with FlopCounterMode(display=False) as counter:
            agent._update(batch, drawn, learn_actor)
        flops.append(counter.get_total_flops())
    critic = sum(p.nbytes for m in (agent.encoder, agent.critic) for p in m.parameters())
    actor = sum(p.nbytes for p in agent.actor.parameters())
    frames = 2 * config.batch_size * len(SPEC.cameras) * 3 * SIZE[0] * SIZE[1]
    # Adam reads weight, gradient and both moments and writes three of them; the gradient is
    # written once; the target is read and written, the weight read.
    traffic = 4 + 3 + 1 + 3
    updates = config.updates_per_block
    total = flops[0] * (updates - 1) + flops[1]
    return float(total), float(updates * (traffic * critic + frames) + traffic * actor)


# -- the tables -----------------------------------------------------------------------------------


def learning(config: AgentConfig, device: str, episodes: int, seconds: float) -> None:
    speed = Speed.of(torch.device(device))
    peak, bandwidth = hardware(device, speed)
    flops, least_bytes = block_cost(config)
    floor = max(flops / peak, least_bytes / bandwidth) / config.updates_per_block
    bound = "operations" if flops / peak > least_bytes / bandwidth else "bytes"
    print(
        f"measured here: {peak / 1e12:.3g} TFLOP/s, {bandwidth / 1e9:.3g} GB/s; a block of "
        f"{config.updates_per_block}: {flops / 1e9:.3g} GFLOP, {least_bytes / 1e9:.3g} GB at "
        f"least; the floor is of {bound}: {1 / floor:.4g} updates/s"
    )
    rows: list[list[str]] = []
    first = 0.0

    def add(name: str, found: float) -> None:
        nonlocal first
        first = first or found
        rows.append([name, f"{found:.1f}", f"{found / first:.2f}", f"{100 * found * floor:.0f} %"])
        print(f"  {name}: {found:.1f} updates/s", file=sys.stderr, flush=True)

    at_hand = replay(config, episodes, device)
    variants = [("the agent", speed, at_hand)]
    for field in dataclasses.fields(Speed):
        on = getattr(speed, field.name)
        if field.name == "cuda_graph" and device == "cpu":
            continue
        changed = dataclasses.replace(speed, **{field.name: not on})
        variants.append((f"{'without' if on else 'with'} {field.name}", changed, at_hand))
    if device == "cuda":
        off = Speed(False, False, False)
        variants += [
            ("replay in pinned host memory", speed, replay(config, episodes, "cpu", pinned=True)),
            ("all three off", off, at_hand),
        ]
    for name, options, buffer in variants:
        agent = ResidualTD3(config, SPEC, Normaliser.from_spec(SPEC), 0, device, options)
        agent.update(buffer, 6)

        def block(agent: ResidualTD3 = agent, buffer: ReplayBuffer = buffer) -> int:
            before = agent.updates
            agent.update(buffer, 8 if device == "cuda" else 1)
            return agent.updates - before

        add(name, rate(block, device, seconds))

    reference = ReferenceAgent(
        config, SPEC, *Normaliser.from_spec(SPEC).buffers(), device=torch.device(device)
    )
    generator = torch.Generator().manual_seed(0)

    def plain() -> int:
        for k in range(config.updates_per_block):
            index = at_hand.draw(generator, config.batch_size, config.offline_fraction)
            drawn = draw(generator, config, SPEC, 1).of(0)
            batch = at_hand.gather(index.to(at_hand.device))
            reference.update(batch, drawn, k == config.updates_per_block - 1)
        return config.updates_per_block

    plain()
    add("the plain reference", rate(plain, device, seconds))
    table(
        f"Critic updates a second (batch {config.batch_size}, {config.ensemble_size} heads, the "
        f"actor's update at every {config.updates_per_block}th)",
        ["", "updates/s", "ratio", "share of the floor"],
        rows,
    )


def inference(config: AgentConfig, device: str) -> None:
    agent = ResidualTD3(
        config, SPEC, Normaliser.from_spec(SPEC), 0, "cpu", Speed(False, False, False)
    )
    policy = agent.policy().to(device)
    one = episode(0)
    images = {name: frames[0] for name, frames in one.images.items()}
    times = []
    for _ in range(300):
        start = time.perf_counter()
        policy.residual(images, one.state[0], one.base_action[0])
        times.append(1e3 * (time.perf_counter() - start))
    p50, p99 = np.percentile(times[50:], [50, 99])
    table(
        "Residual of one observation, two cameras, from numpy to numpy",
        ["device", "p50, ms", "p99, ms"],
        [[device, f"{p50:.2f}", f"{p99:.2f}"]],
    )


def sampling(config: AgentConfig, device: str, episodes: int, seconds: float) -> None:
    """Both halves of a batch with its images; TorchRL holds the same transitions."""
    ours = replay(config, episodes, device)
    halves = {"offline": ours._offline, "online": ours._online}
    theirs = {}
    for name, index in halves.items():
        storage = LazyTensorStorage(len(index), device=device)
        buffer = TensorDictReplayBuffer(storage=storage, batch_size=config.batch_size // 2)
        for part in index.split(500):
            batch = ours.gather(part.to(ours.device))
            values = {
                "images": batch.images, "next_images": batch.next_images, "state": batch.state,
                "next_state": batch.next_state, "base_action": batch.base_action,
                "next_base_action": batch.next_base_action, "action": batch.action,
                "reward": batch.reward, "discount": batch.discount,
            }  # fmt: skip
            buffer.extend(TensorDict(values, batch_size=[len(part)], device=device))
        theirs[name] = buffer
    generator = torch.Generator().manual_seed(0)

    def our_batch() -> int:
        index = ours.draw(generator, config.batch_size, config.offline_fraction)
        batch = ours.gather(index.to(ours.device))
        return len(batch.images["agentview"]) * (len(batch.next_images) > 0)

    def their_batch() -> int:
        batch = torch.cat([theirs["offline"].sample(), theirs["online"].sample()])
        return int(batch.batch_size[0])

    found = {
        "ours": rate(our_batch, device, seconds),
        "TorchRL": rate(their_batch, device, seconds),
    }
    count = len(ours._offline) + len(ours._online)
    sizes = {
        "ours": ours.nbytes / (ours._ring_start + ours._ring_frames),
        "TorchRL": sum(b.storage[:].bytes() for b in theirs.values()) / count,
    }
    raw = len(SPEC.cameras) * 3 * SIZE[0] * SIZE[1]
    table(
        f"Replay of {count} transitions, batches of {config.batch_size} with images, half of them "
        "demonstrations",
        ["", "transitions/s", "ratio", "bytes a transition", "per 100,000", "of the raw frames"],
        [
            [
                {"ours": "ReplayBuffer", "TorchRL": "TorchRL TensorDictReplayBuffer"}[name],
                f"{value:.0f}", f"{value / found['ours']:.2f}", f"{sizes[name]:.0f}",
                f"{sizes[name] / 1e4:.2f} GB", f"{sizes[name] / raw:.3f}",
            ]
            for name, value in found.items()
        ],
    )  # fmt: skip


def disk(config: AgentConfig, episodes: int) -> None:
    """Append, and load into a new buffer as a resumed learner does, verifying each checksum."""
    with tempfile.TemporaryDirectory() as folder:
        store = EpisodeStore(folder)
        recorded = [dataclasses.replace(episode(k), episode_id=k + 1) for k in range(episodes)]
        start = time.perf_counter()
        for one in recorded:
            store.write(one)
        written = time.perf_counter() - start
        buffer = ReplayBuffer(SPEC, STEPS * episodes, config.n_step, config.gamma, [])
        start = time.perf_counter()
        for number in store.ids():
            buffer.add(store.read(number))
        loaded = time.perf_counter() - start
    scale = 100_000 / (STEPS * episodes)
    table(
        f"Episodes on disk, {episodes} of {STEPS} steps, one file each, atomic",
        ["", "transitions/s", "s for 100,000, scaled"],
        [
            ["append, with fsync", f"{1e5 / (written * scale):.0f}", f"{written * scale:.1f}"],
            ["load and verify", f"{1e5 / (loaded * scale):.0f}", f"{loaded * scale:.1f}"],
        ],
    )


def machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads used"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agent-config", type=Path, default=ROOT / "config/agents/cpu.yaml")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured for each row")
    parser.add_argument(
        "--episodes", type=int, default=40, help=f"held, of {STEPS} steps (4.3 MB) each"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--utd-ratio", type=int, default=4, help="in place of the configuration's")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: device: expected a CUDA device, found none")
    torch.set_num_threads(arguments.threads)
    config = dataclasses.replace(
        load_agent_config(arguments.agent_config),
        utd_ratio=arguments.utd_ratio,
        critic_warmup_updates=0,
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    print(
        f"{machine(arguments.device)}; torch {torch.__version__}; {arguments.agent_config.name}; "
        f"commit {commit or 'unknown'}"
    )
    if "learning" in arguments.tables:
        learning(config, arguments.device, arguments.episodes, arguments.seconds)
    if "inference" in arguments.tables:
        inference(config, arguments.device)
    if "replay" in arguments.tables:
        sampling(config, arguments.device, arguments.episodes, arguments.seconds)
    if "disk" in arguments.tables:
        disk(config, arguments.episodes)


if __name__ == "__main__":
    main()
