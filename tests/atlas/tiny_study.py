"""A study that does nothing but count: run as ``python tiny_study.py OUT STEPS SECONDS``."""

import json
import pathlib
import sys
import time

out, steps, pause = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
for step in range(steps + 1):
    line = {"done": step, "total": steps, "message": f"block {step} of {steps}"}
    print(json.dumps(line), file=sys.stderr, flush=True)
    time.sleep(pause)
drawing = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle r="3"/></svg>'
(out / "curve.svg").write_text(drawing)
claims = [
    {"id": "a", "text": "Sparse is simple.", "verdict": "holds", "paper_value": 2,
     "our_value": 2.013, "stderr": 0.02, "note": "<b>a slope</b>"},
    {"id": "b", "text": "Dense is hard.", "verdict": "fails", "paper_value": "1/4",
     "our_value": 0.31, "stderr": None, "note": ""},
]  # fmt: skip
figures = [
    {"file": "curve.svg", "caption": "A curve."},
    {"file": "../../../../etc/passwd", "caption": "not ours"},
]
result = {"name": "tiny", "title": "Tiny", "paper": "roberts2021", "claims": claims}
(out / "result.json").write_text(json.dumps({**result, "figures": figures}))
