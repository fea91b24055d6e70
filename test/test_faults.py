"""Each fault on the way from sensors to the robot: a clear reason, and the robot holds.

The bridge's topics pass through a link of the test's own, which can spoil or drop messages.
"""

import math
import time

import pytest
from rosgraph_msgs.msg import Clock

from resfit_interfaces.msg import EpisodeState
from resfit_interfaces.srv import LabelEpisode

CAMERA = "cameras/agentview/image_raw"


@pytest.fixture(scope="module")
def faulty(launch_relayed):
    return launch_relayed(
        [CAMERA, "joint_states", "wrenches/right", "action_command"],
        "task:=square",
        "base_policy:=scripted",
        "learner:=false",
        file="sim.launch.py",
    )


def _resized(message):
    message.height, message.width, message.step = 64, 64, 192
    message.data = message.data[: 64 * 192]
    return message


def _encoded(message):
    message.encoding = "bgr8"
    return message


def _nan_joint(message):
    message.position[-1] = math.nan
    return message


def _nan_wrench(message):
    message.wrench.torque.y = math.nan
    return message


def _pushed(message):
    message.wrench.force.x = 5000.0
    return message


def _nan_action(message):
    message.action[2] = math.nan
    return message


def _drop(message):
    return None


# What is spoilt, and what must then be said: by the episode's end, or by the policy.
FAULTS = {
    "camera missing": (CAMERA, _drop, "policy", "agentview"),
    "camera size": (CAMERA, _resized, "policy", "expected 84x84 pixels, found 64x64"),
    "camera encoding": (CAMERA, _encoded, "policy", "expected encoding rgb8, found 'bgr8'"),
    "NaN in state": ("joint_states", _nan_joint, "policy", "finger_joint2"),
    "NaN in wrench": ("wrenches/right", _nan_wrench, "safety_stop", "right"),
    "wrench over threshold": ("wrenches/right", _pushed, "safety_stop", "right"),
    "wrench silent": ("wrenches/right", _drop, "safety_stop", "right"),
    "NaN in action": ("action_command", _nan_action, "safety_stop", "action z"),
}


@pytest.mark.timeout(420)
def test_faults_hold_the_robot(faulty):
    for name, (topic, spoil, by, text) in FAULTS.items():
        episode = faulty.start()
        faulty.links[topic].spoil = spoil
        if by == "policy":
            faulty.wait(lambda text=text: faulty.complaint("policy", text), name)
        else:
            faulty.wait(lambda: faulty.ended, name)
            end = faulty.states[-1]
            assert end.outcome == EpisodeState.OUTCOME_SAFETY_STOP, (name, end)
            assert text in end.reason, (name, end.reason)
            assert (end.reward, end.done) == (0.0, True)
        faulty.assert_still(name)
        faulty.links[topic].mend()
        faulty.finish(episode)


@pytest.mark.timeout(120)
def test_second_labeler_and_clock_that_jumps_back(faulty):
    episode = faulty.start()
    second = type(faulty.labeler)(faulty.observer)
    time.sleep(0.5)
    answer = second.label(LabelEpisode.Request.SUCCESS, episode)
    assert not answer.accepted and faulty.labeler.id[:8] in answer.message, answer.message
    assert faulty.states[-1].state == EpisodeState.RUNNING
    second.timer.cancel()

    stamp = faulty.joints[-1].header.stamp

    def jumped_and_noticed() -> bool:
        # Again and again: of a topic of depth 1 the driver's next message may take one's place.
        faulty.clock.publish(Clock(clock=type(stamp)(sec=stamp.sec - 100)))
        return faulty.ended

    faulty.wait(jumped_and_noticed, "clock")
    assert faulty.states[-1].outcome == EpisodeState.OUTCOME_ABORTED
    assert "clock" in faulty.states[-1].reason, faulty.states[-1].reason
    faulty.assert_still("clock")
