"""The library that the scripts in bin/ share; importing it makes the packages of .venv importable.

This file runs before anything else does, also under an interpreter that is too old for the rest: it must parse
with any python3. Packages come from .venv when that was made by the same Python version as the one running, else
the script starts again under .venv's own interpreter; without a .venv the system's packages have to do.
"""

import _signal  # type: ignore[import-not-found]  # signal takes longer to import than all else here
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
VERSION = "0.1.0"
OLDEST_PYTHON = (3, 11)
# Python cannot tell which program it is when `env -i` starts it without a PATH. Everything that starts Python again,
# the keeper and an agent's terminal too, goes by sys.executable.
sys.executable = sys.executable or os.path.realpath("/proc/self/exe")


def _is_script():  # type: () -> bool
    script = os.path.realpath(sys.argv[0]) if sys.argv and sys.argv[0] else ""
    return os.path.dirname(script) == os.path.join(ROOT, "bin")


def _end_at_ctrl_c():  # type: () -> None
    """Until cli.run takes over a script has begun nothing: Ctrl-C is no reason for a traceback out of its imports."""
    if _is_script() and _signal.getsignal(_signal.SIGINT) == _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def _find_packages():  # type: () -> None
    venv = os.path.join(ROOT, ".venv")
    fitting = os.path.join(venv, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
    if sys.version_info >= OLDEST_PYTHON and os.path.isdir(fitting):
        if fitting not in sys.path:
            sys.path.insert(_before_other_packages(), fitting)
        return
    python = os.path.join(venv, "bin", "python")
    if _is_script() and sys.prefix != venv and os.access(python, os.X_OK):
        os.execv(python, [python, os.path.realpath(sys.argv[0])] + sys.argv[1:])
    if sys.version_info < OLDEST_PYTHON:
        name = os.path.basename(sys.argv[0] if sys.argv else "") or "ao"
        found = "%d.%d" % sys.version_info[:2]
        sys.exit("%s: needs Python 3.11 or newer, found %s; run: make -C %s setup" % (name, found, ROOT))


def _before_other_packages():  # type: () -> int
    for place, folder in enumerate(sys.path):
        if folder.endswith(("site-packages", "dist-packages")):
            return place
    return len(sys.path)


_end_at_ctrl_c()
_find_packages()
