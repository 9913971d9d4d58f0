"""Classify motion as it comes in: one JSON line a frame, from standard input or a UDP port.

Run it with: python examples/live_udp.py ENCODER FPS WINDOW HOP < frames.jsonl
or:          python examples/live_udp.py ENCODER FPS WINDOW HOP --udp 9000

ENCODER is a checkpoint with a classifier, or "ui_prmd", which comes with the package. A line is
{"time": 12.34, "people": {"7": [[x, y, z], ...]}}: seconds, and for each person by id the joints of
the encoder's skeleton in meters, y up, null where one was not seen. WINDOW and HOP are seconds.
Each answer is a line of JSON.
"""

import json
import socket
import sys

import numpy as np

from aimclr_fast import Error, load_encoder
from aimclr_fast.inference.streaming import StreamingClassifier

UNSEEN = [None] * 3  # NaN
SLIPS = (AttributeError, KeyError, TypeError, ValueError)  # of a sender: they do not end it


def main(encoder, fps, window, hop, *udp):
    encoder = load_encoder(encoder, device="cpu")
    if not encoder.class_names:
        raise ValueError("the encoder has no classifier: python -m aimclr_fast.learn makes one")
    live = StreamingClassifier(encoder, fps=float(fps), window=float(window), hop=float(hop))
    for number, line in enumerate(lines(*udp), start=1):
        try:
            answers = live.push(*frame(line))
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


def frame(line):
    found = json.loads(line)
    return float(found["time"]), {
        person: np.array([joint or UNSEEN for joint in joints], dtype=np.float32)
        for person, joints in found["people"].items()
    }


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
