"""The process of an agent's terminal: runs the agent that a launch file describes and leaves its exit code in a file.

It is started as `python3 lib/launcher.py LAUNCH.json`, on its own and with the standard library only, so that nothing
long or secret is on a command line and the agent has the environment of its file, whichever tmux server it runs in.
When the agent ends so does the terminal: there never is a shell behind an agent that could take a message for commands.
"""

import json
import os
import signal
import sys
import time

BANNER = "ao: running "  # begins the first line in a terminal: a scrollback that begins with it has lost nothing
# What belongs to the terminal and not to the agent's file.
FROM_TERMINAL = ("TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "TMUX", "TMUX_PANE")
IGNORED = (signal.SIGINT, signal.SIGQUIT)  # keys are for the agent
# What is ignored stays so for the agent unless it is reset, and Python and tmux ignore several.
RESET = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
HANG_UP = (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL)  # no agent goes on without its terminal
PATIENCE = 2  # seconds between those
LINES_KEPT = "-200"  # of the scrollback, beside the screen
CANNOT_RUN = 127


def command(path: str) -> list[str]:
    """How to start the launcher with the launch file `path`."""
    return [sys.executable, "-IS", os.path.realpath(__file__), path]


def exit_file(path: str) -> str:
    """Where the launch file `path` has its exit code: JSON `{code, at, pid, error}`, pid being the launcher's.

    The code of an agent that a signal ended is 128 and the signal's number. `error` is there when it did not start. One
    whose terminal was taken away leaves none.
    """
    return path.removesuffix(".json") + ".exit"


def screen_file(path: str) -> str:
    """Where the launch file `path` has what was last on its terminal."""
    return path.removesuffix(".json") + ".screen"


def main(path: str) -> int:
    leaves = exit_file(path)
    try:
        if os.path.exists(leaves):
            os.unlink(leaves)  # of an earlier life
        agent = _start(path)
    except (OSError, ValueError, KeyError, IndexError) as error:
        reason = f"ao: cannot start the agent of '{path}': {error}"
        print(reason, flush=True)
        _leave(leaves, CANNOT_RUN, reason)
        return CANNOT_RUN
    taken = _pass_on_signals(agent)
    code = os.waitstatus_to_exitcode(os.waitpid(agent, 0)[1])
    code = 128 - code if code < 0 else code
    if not taken:
        _keep_screen(screen_file(path))
        _leave(leaves, code)
    return code


def _start(path: str) -> int:
    with open(path, encoding="utf-8") as file:
        launch = json.load(file)
    environment = launch["environment"] | {key: os.environ[key] for key in FROM_TERMINAL if key in os.environ}
    os.environ.update(environment)  # its PATH is where posix_spawnp looks for the agent
    os.chdir(launch["folder"])
    print(f"{BANNER}{os.path.basename(launch['argv'][0])} in {launch['folder']}", flush=True)
    for sign in IGNORED:
        signal.signal(sign, signal.SIG_IGN)
    return os.posix_spawnp(launch["argv"][0], launch["argv"], environment, setsigdef=RESET)


def _pass_on_signals(agent: int) -> list[int]:
    """The signals that will have come: after one the agent was taken away, as in a reboot, and has not just ended."""
    escalation, taken = list(HANG_UP), []

    def send(sign: int) -> None:
        try:
            os.kill(agent, sign)
        except ProcessLookupError:
            pass  # it has just ended

    def end(sign: int, _: object) -> None:
        taken.append(sign)
        send(sign)

    def hang_up(sign: int, _: object) -> None:
        taken.append(sign)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        send(escalation.pop(0))
        if escalation:
            signal.alarm(PATIENCE)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, hang_up)
    signal.signal(signal.SIGHUP, hang_up)
    return taken


def _keep_screen(path: str) -> None:
    """Keep what is on the terminal, which goes with this process."""
    socket, pane = os.environ.get("TMUX", "").partition(",")[0], os.environ.get("TMUX_PANE", "")
    argv = ["tmux", "-u", "-S", socket, "capture-pane", "-p", "-J", "-S", LINES_KEPT, "-t", pane]
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        to_file = [(os.POSIX_SPAWN_OPEN, 1, path, flags, 0o600), (os.POSIX_SPAWN_OPEN, 2, os.devnull, flags, 0o600)]
        tmux = os.posix_spawnp(argv[0], argv, os.environ, file_actions=to_file, setsigdef=RESET)
    except OSError:
        return
    end = time.monotonic() + PATIENCE
    while os.waitpid(tmux, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.kill(tmux, signal.SIGKILL)
            end += 3600
        time.sleep(0.01)


def _leave(path: str, code: int, error: str = "") -> None:
    """Write the exit file in one go: half of one is no JSON, and is taken for none."""
    now = time.time()
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps({"code": code, "at": at, "pid": os.getpid()} | ({"error": error} if error else {})))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
