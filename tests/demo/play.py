"""One of the demo's agents: the scripted agent with the story for its issue. It is what ao.yaml names as `command`.

    play.py FOLDER          with its log, <session>.log, in FOLDER

Two report what they do through ao-hook; of the other two ao sees nothing but the screen.
"""

import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
CAST = {"1": ("straight", True), "2": ("hasty", False), "3": ("attentive", True), "4": ("parallel", False)}

if __name__ == "__main__":
    name, has_hooks = CAST[os.environ["AO_ISSUE_ID"]]
    log = os.path.join(sys.argv[1], os.environ["AO_SESSION_ID"] + ".log")
    words = ["--story", os.path.join(HERE, "stories", name + ".py"), "--log", log, *["--hooks"] * has_hooks]
    os.execv(sys.executable, [sys.executable, os.path.join(HERE, "agent.py"), *words])
