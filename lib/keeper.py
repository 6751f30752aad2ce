"""The process between ao and a program that changes something: holds ao's locks until that program has ended.

A process of ao that is killed leaves its git or tmux at work, and whoever took its lock then would undo what is still
being done. So the locks are passed on: to this process and not to the program, which may leave a server or a daemon
running that must not hold them. It is started as `python3 -IS lib/keeper.py LOCKS WORD PROGRAM...`, on its own and with
the standard library only. LOCKS are descriptors. After the WORD `ends` the program ends with ao, whose end of our
standard input closes then; after any other it goes on.
"""

import _thread
import os
import signal
import sys

CANNOT_RUN = 127
NO_INPUT = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)


def main(locks: str, word: str, *program: str) -> int:
    for descriptor in filter(None, locks.split(",")):
        os.set_inheritable(int(descriptor), False)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is for the whole group, and the program goes first
    if word == "ends":
        _thread.start_new_thread(_end, ())
    try:
        actions = [NO_INPUT] if word == "ends" else []
        child = os.posix_spawnp(program[0], program, os.environ, file_actions=actions, setsigdef=[signal.SIGTERM])
    except OSError as error:
        os.write(2, f"cannot run '{program[0]}': {error.strerror}\n".encode())
        return CANNOT_RUN
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 128 - code if code < 0 else code


def _end() -> None:
    os.read(0, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))
