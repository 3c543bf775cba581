"""Stands in for an interpreter with PyTorch: answers what `official.py` is asked.

Three images are too many for it.
"""

import json
import sys

program, checkout = sys.argv[1:]
described = json.loads(sys.stdin.readline())
if described["settings"]["model"]["num_classes"] == 5:
    sys.exit("ModuleNotFoundError: No module named 'torch'")
print(json.dumps({"program": program, "checkout": checkout}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    answer = [60.0 * asked["batch"], 20.0 if asked["run"] == "train" else 40.0]
    if asked["batch"] == 3:
        answer = {"error": "OutOfMemoryError: three images are too many"}
    print(json.dumps(answer), flush=True)
