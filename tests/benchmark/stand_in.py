"""Stands in for an interpreter with PyTorch: answers what `official.py` is asked."""

import json
import sys

program, checkout = sys.argv[1:]
described = json.loads(sys.stdin.readline())
if described["settings"]["depth"] != 1:
    sys.exit("ModuleNotFoundError: No module named 'torch'")
print(json.dumps({"program": program, "checkout": checkout}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    print(
        json.dumps([60.0 * asked["batch"], 20.0 if asked["run"] == "train" else 40.0]), flush=True
    )
