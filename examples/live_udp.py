"""Classify motion as it comes in: one JSON line a frame, from standard input or a UDP port.

Run it with: python examples/live_udp.py ENCODER FPS WINDOW HOP < frames.jsonl
or:          python examples/live_udp.py ENCODER FPS WINDOW HOP --udp 9000

ENCODER is a checkpoint with a classifier, or "ui_prmd", which comes with the package. WINDOW and
HOP are seconds. A line holds "time" in seconds, and who is in the frame, in one of these forms:

{"time": 12.34, "people": {"7": [[x, y, z], ...]}}
    for each person by id the joints of the encoder's skeleton in meters, y up
{"time": 12.34, "people": [{"person_id": [7], "pose_keypoints_3d": [x, y, z, c, ...]}]}
    OpenPose's 25 or 18 key points, calibrated in meters, y down
{"time": 12.34, "pose_world_landmarks": [[{"x": 0.1, "y": -0.5, "z": 0.2}, ...]]}
    MediaPipe's 33 world landmarks of each person (or of one, without the outer list), in meters, y
    down

Joints of the last two are brought to the encoder's by name. One that was not seen is null, or has
confidence 0. Each answer is a line of JSON.
"""

import json
import socket
import sys

import numpy as np

from aimclr_fast import Error, load_encoder
from aimclr_fast.data.joint_mapping import map_joints
from aimclr_fast.inference.streaming import StreamingClassifier
from aimclr_fast.layouts import get_layout

OPENPOSE = {25: "openpose-25", 18: "openpose"}
UNSEEN = [None] * 3  # NaN
SLIPS = (AttributeError, KeyError, TypeError, ValueError)  # of a sender: they do not end it


def main(encoder, fps, window, hop, *udp):
    encoder = load_encoder(encoder, device="cpu")
    if not encoder.class_names:
        raise ValueError("the encoder has no classifier: python -m aimclr_fast.learn makes one")
    live = StreamingClassifier(encoder, fps=float(fps), window=float(window), hop=float(hop))
    for number, line in enumerate(lines(*udp), start=1):
        try:
            answers = live.push(*frame(line, encoder.layout))
        except SLIPS as error:
            print(f"line {number}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        for answer in answers:
            found = {
                "person": answer.person,
                "start": round(answer.start, 3),
                "end": round(answer.end, 3),
                "class": answer.name,
                "probability": round(float(answer.probabilities.max()), 4),
            }
            print(json.dumps(found), flush=True)


def frame(line, layout):
    """Time of a frame, and the joints of each person in it, [V, 3] of a layout."""
    found = json.loads(line)
    if "pose_world_landmarks" in found:
        poses = found["pose_world_landmarks"] or []
        poses = [poses] if poses and isinstance(poses[0], dict) else poses
        people = {person: mediapipe(pose, layout) for person, pose in enumerate(poses)}
    elif isinstance(found["people"], list):
        people = {ident(one, place): openpose(one, layout)
                  for place, one in enumerate(found["people"])}  # fmt: skip
    else:
        people = {
            person: np.array([joint or UNSEEN for joint in joints], dtype=np.float32)
            for person, joints in found["people"].items()
        }
    return float(found["time"]), people


def mediapipe(landmarks, layout):
    points = [[one["x"], -one["y"], -one["z"]] for one in landmarks]
    return brought(np.array(points, dtype=np.float32), "mediapipe", layout)


def openpose(person, layout):
    points = np.array(person.get("pose_keypoints_3d") or [], dtype=np.float32).reshape(-1, 4)
    joints = np.where(points[:, 3:] > 0, points[:, :3] * [1, -1, -1], np.nan)
    if len(joints) not in OPENPOSE:
        raise ValueError(f"pose_keypoints_3d: {len(joints)} key points, but OpenPose has 25 or 18")
    return brought(joints, OPENPOSE[len(joints)], layout)


def ident(person, place):
    """OpenPose's id of a person; where it follows nobody, that is -1."""
    (number,) = person.get("person_id", [-1])
    return place if number < 0 else number


def brought(joints, name, layout):
    """Joints of a built-in layout as those of another, by name."""
    source = get_layout(name)
    if len(joints) != source.num_joints:
        raise ValueError(f"{len(joints)} joints, but {name} has {source.num_joints}")
    return joints[list(map_joints(layout, source).source)]


def lines(flag=None, port=None):
    if flag is None:
        yield from sys.stdin
    elif flag != "--udp" or port is None:
        raise ValueError("after HOP comes nothing, or --udp PORT")
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", int(port)))
            while True:
                yield receiver.recv(65_535)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (Error, OSError, ValueError) as error:
        sys.exit(f"live_udp.py: {error}")
    except KeyboardInterrupt:
        pass
