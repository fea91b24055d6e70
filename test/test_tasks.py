"""Each task runs in the same graph."""

import pytest
from sensor_msgs.msg import Image

from resfit_rl.episode_store import EpisodeStore
from resfit_rl.tasks import get_task, task_names
from resfit_ros import qos


@pytest.mark.timeout(300)
@pytest.mark.parametrize("task", task_names())
def test_one_episode(launch_sim, observer, tmp_path, quick_agent, task):
    """Smallest settings: small pictures and no demonstrations; the expert shows that it works."""
    run_dir = tmp_path / "run"
    agent = tmp_path / "agent.yaml"
    # The expert is to succeed beside the noise of the warm-up.
    small = {"warmup_noise": 0.001, "exploration_std": 0.001, "residual_scale": 0.01}
    agent.write_text(
        "\n".join([f"base: {quick_agent}", *(f"{key}: {value}" for key, value in small.items())])
    )
    pictures = {
        camera: observer.collect(Image, f"cameras/{camera}/image_raw", qos.SENSOR)
        for camera in get_task(task).cameras
    }
    graph = launch_sim(
        f"task:={task}",
        "base_policy:=scripted",
        f"run_dir:={run_dir}",
        f"agent_config:={agent}",
        "image_height:=32",
        "image_width:=32",
        "demonstrations:=none",
        "episodes:=1",
        file="vega_rl.launch.py" if get_task(task).joint_actions else "sim.launch.py",
    )
    graph.wait_for(r"\[auto_labeler-\d+\].*all 1 episodes done: 1 success", 240)
    assert graph.process.wait(60) == 0
    assert graph.left_over() == []
    assert "process has died" not in graph.log
    assert "[ERROR]" not in graph.log

    store = EpisodeStore(run_dir)
    (entry,) = store.list()
    episode = store.read(entry.episode_id)
    assert (episode.outcome, episode.reward, episode.done) == ("success", 1.0, True)
    assert set(episode.images) == set(get_task(task).cameras)
    for camera, received in pictures.items():
        assert {(m.height, m.width, m.encoding) for m in received} == {(32, 32, "rgb8")}
        assert episode.images[camera].shape == (len(episode) + 1, 32, 32, 3)
        assert episode.images[camera].std() > 10  # not one colour: the scene is in it
