"""Small data sets in the layouts that others write: LeRobotDatasets v3 and v2.1, HDF5 files."""

import json

import av
import h5py
import numpy as np
import pandas as pd
from lerobot.datasets.lerobot_dataset import LeRobotDataset

SIZE = (84, 84)


def made(layout, task, length, seed=0, size=SIZE):
    """(low-dimensional arrays, actions, pictures) of an episode, with the layout's own keys."""
    rng = np.random.default_rng(seed)
    low_dim = {key: rng.normal(size=(length, n)) for key, n in layout.sizes().items()}
    for key, values in low_dim.items():
        if key.endswith("eef_quat"):
            values /= np.linalg.norm(values, axis=1, keepdims=True)
    action = rng.uniform(task.action_lower, task.action_upper, (length, task.action_dim))
    # Of one colour each: a video keeps that.
    images = {
        layout.camera(camera): np.broadcast_to(
            rng.integers(0, 256, (length, 1, 1, 3), np.uint8), (length, *size, 3)
        ).copy()
        for camera in task.cameras
    }
    return low_dim, action, images


def features(layout, task, dtype, size=SIZE):
    """As the authors of the paper's data sets describe them."""
    state = sum(layout.sizes().values())
    names = ["height", "width", "channel"]
    return {
        "action": {"dtype": "float32", "shape": (task.action_dim,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": ["done"]},
        "observation.state": {"dtype": "float32", "shape": (state,), "names": None},
        **{
            f"observation.images.{layout.camera(camera)}": {
                "dtype": dtype,
                "shape": (*size, 3),
                "names": names,
            }
            for camera in task.cameras
        },
    }


def frames(episode, done):
    low_dim, action, images = episode
    state = np.concatenate(list(low_dim.values()), axis=1).astype(np.float32)
    for step in range(len(action)):
        yield {
            "action": action[step].astype(np.float32),
            "next.done": np.array([step >= done]),
            "observation.state": state[step],
            **{f"observation.images.{name}": frame[step] for name, frame in images.items()},
        }


def write_v3(root, layout, task, episodes, *, videos=False, done_at=None, size=SIZE):
    """`done_at`: frame from which next.done is true; None for the last one."""
    dataset = LeRobotDataset.create(
        "someone/else",
        fps=20,
        features=features(layout, task, "video" if videos else "image", size),
        root=root,
        use_videos=videos,
    )
    for episode in episodes:
        done = len(episode[1]) - 1 if done_at is None else done_at
        for frame in frames(episode, done):
            dataset.add_frame(frame | {"task": "a task"})
        dataset.save_episode(parallel_encoding=False)  # no fork of the tests' threads
    dataset.finalize()


def write_v21(root, layout, task, episodes, *, fps=20):
    """One table and one video per camera for each episode."""
    described = features(layout, task, "video")
    info = {
        "codebase_version": "v2.1",
        "total_episodes": len(episodes),
        "fps": fps,
        "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/"
        "episode_{episode_index:06d}.mp4",
        "features": described,
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    for index, episode in enumerate(episodes):
        rows = list(frames(episode, len(episode[1]) - 1))
        columns = ("action", "observation.state")
        table = {key: [row[key] for row in rows] for key in columns}
        table["next.done"] = [bool(row["next.done"][0]) for row in rows]
        table |= {"episode_index": index, "frame_index": range(len(rows))}
        path = root / f"data/chunk-000/episode_{index:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(table).to_parquet(path)
        for name, pictures in episode[2].items():
            folder = root / f"videos/chunk-000/observation.images.{name}"
            write_video(folder / f"episode_{index:06d}.mp4", pictures)


def write_video(path, pictures):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def write_hdf5(path, episodes, *, environment="PickPlaceCan", robots=("Panda",), success=-1):
    """As Robomimic and DexMimicGen write it; `success`: index of the first reward of 1."""
    arguments = {
        "env_name": environment,
        "env_version": "1.5.1",
        "type": 1,
        "env_kwargs": {
            "robots": list(robots),
            "control_freq": 20,
            "controller_configs": {
                "type": "BASIC",
                "body_parts": {
                    "right": {
                        "type": "OSC_POSE",
                        "input_type": "delta",
                        "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
                    }
                },
            },
        },
    }
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(arguments)
        data.attrs["total"] = sum(len(action) for _, action, _ in episodes)
        for index, (low_dim, action, images) in enumerate(episodes):
            demo = data.create_group(f"demo_{index}")
            demo.attrs["num_samples"] = len(action)
            demo["actions"] = action
            rewards = np.zeros(len(action))
            rewards[success:] = 1
            demo["rewards"] = rewards
            demo["dones"] = rewards.astype(np.int64)
            for key, values in low_dim.items():
                demo[f"obs/{key}"] = values
            for name, pictures in images.items():
                demo[f"obs/{name}_image"] = pictures
