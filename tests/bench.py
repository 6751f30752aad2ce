"""How long ao takes and how much memory, beside the bounds that it promises to keep.

    make bench

Times are medians of several runs in seconds of CPU, which a busy machine stretches least. A start is also told as a
multiple of a bare interpreter's (`python3 -c pass`), started in turn with it: that holds on any machine. Beside what
ao-rs, which ao succeeds, says of itself in its README, its figures stand. Nothing here fails when a bound is missed.
"""

# This process stays small, because what it starts is never reported to use less memory than it does: no import of lib,
# nor of anything large.
import os
import shutil
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
BIN = os.path.join(ROOT, "bin")
MEGABYTE = 1024.0 if sys.platform == "linux" else 1024.0 * 1024.0  # of ru_maxrss, which other systems count in bytes
SEED_START, SEED_SIZE, SEED_LINES = "8 ms, 10 MB", "12 MB", "46,101"  # of ao-rs: start and memory, binary, code
MOST_LINES = "7,000"  # of bin and lib


class Run:
    """What one run took: seconds of CPU with all that it started, megabytes at most."""

    def __init__(self, argv: "list[str]", environment: "dict[str, str]") -> None:
        quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
        process = os.posix_spawn(sys.executable, [sys.executable, *argv], environment, file_actions=quiet)
        _, status, used = os.wait4(process, 0)
        if status:
            sys.exit(f"bench: cannot measure '{' '.join(argv)}': it failed")
        self.seconds = used.ru_utime + used.ru_stime
        self.memory = used.ru_maxrss / MEGABYTE


class Bench:
    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []

    def add(self, what: str, measured: str, bound: str = "", ratio: str = "", seed: str = "") -> None:
        self.rows.append((what, measured, bound, ratio, seed))

    def start(
        self, what: str, bound: str, argv: "list[str]", home: str, times: int = 15, seed: str = SEED_START
    ) -> None:
        """Measure a start against a bare one, both in turn."""
        environment = {**ENVIRONMENT, "AO_HOME": home}
        Run(argv, environment)
        pairs = [(Run(["-c", "pass"], environment), Run(argv, environment)) for _ in range(times)]
        ratio = median([run.seconds / bare.seconds for bare, run in pairs])
        seconds, memory = median([run.seconds for _, run in pairs]), median([run.memory for _, run in pairs])
        self.add(what, f"{seconds * 1000:.0f} ms, {memory:.0f} MB", bound, f"{ratio:.2f} ×", seed)

    def latency(self, times: int) -> None:
        """Measure, by the clock, how soon an agent has the log of a check that has failed."""
        read, write = os.pipe()
        argv = [sys.executable, os.path.join(ROOT, "tests", "latency.py"), str(times)]
        answers = [(os.POSIX_SPAWN_DUP2, write, 1)]
        process = os.posix_spawn(sys.executable, argv, ENVIRONMENT, file_actions=answers)
        os.close(write)
        with open(read) as file:
            answer = file.read()
        if os.waitpid(process, 0)[1]:
            sys.exit("bench: cannot measure how soon a failed check is told")
        seconds = [float(word) for word in answer.split()]
        measured = f"{median(seconds):.1f} s, at most {max(seconds):.1f} s of {times}"
        self.add("CI red → message in the agent's terminal, 5 s loop", measured, "10 s")

    def forge(self, folder: str) -> None:
        """Count what an hour with 300 open pull requests in three repositories asks of GitHub."""
        import json
        import subprocess

        script = os.path.join(ROOT, "tests", "hour.py")
        done = subprocess.run([sys.executable, script, folder], env=ENVIRONMENT, capture_output=True, check=True)
        for row in json.loads(done.stdout):
            self.add(*row)

    def growth(self, folder: str, count: int, size: int) -> None:
        """Measure what it adds to a look that every transcript has grown by 2 kB."""
        import fleets

        fleet(folder, count, size)
        environment = {**ENVIRONMENT, "AO_HOME": os.path.join(folder, "home")}
        environment["PATH"] = os.path.join(folder, "programs") + os.pathsep + environment["PATH"]
        tick, added = [os.path.join(BIN, "ao-tick")], list[float]()
        first = Run(tick, environment).seconds
        Run(tick, environment)
        for turn in range(5):
            idle = Run(tick, environment).seconds
            fleets.grow(os.path.join(folder, "claude"), turn)
            added.append(Run(tick, environment).seconds - idle)
        measured = f"{median(added):.2f} s more of CPU; the first look at all {first:.1f} s"
        self.add(f"ao-tick, {count} transcripts of {size / 1e6:.0f} MB have grown by 2 kB", measured, "0.5 s")

    def tick(self, folder: str, count: int, bound: str) -> None:
        """Measure a look at a fleet in which nothing has changed."""
        home, calls = os.path.join(folder, "home"), os.path.join(folder, "calls")
        environment = {**ENVIRONMENT, "AO_HOME": home}
        environment["PATH"] = os.path.join(folder, "programs") + os.pathsep + environment["PATH"]
        tick = [os.path.join(BIN, "ao-tick")]
        for _ in range(2):
            Run(tick, environment)
        os.truncate(calls, 0)
        before, times = written(home), 5
        runs = [Run(tick, environment) for _ in range(times)]
        with open(calls) as file:
            asked = len(file.readlines()) / times
        rewritten = len([path for path, at in written(home).items() if before.get(path) != at])
        seconds, memory = median([run.seconds for run in runs]), median([run.memory for run in runs])
        measured = f"{seconds:.2f} s, {memory:.0f} MB, {asked:g} tmux calls, {rewritten} records written"
        self.add(f"ao-tick, {count} live sessions, nothing changed", measured, bound)


def median(values: "list[float]") -> float:
    return sorted(values)[len(values) // 2]


def written(home: str) -> "dict[str, int]":
    """When each record was written, by path."""
    folder = os.path.join(home, "sessions", "shop")
    return {one.path: one.stat().st_mtime_ns for one in os.scandir(folder) if one.name.endswith(".yaml")}


def fleet(folder: str, count: int, *transcripts: int) -> str:
    os.makedirs(folder)
    Run([os.path.join(ROOT, "tests", "fleets.py"), folder, str(count), *map(str, transcripts)], ENVIRONMENT)
    return folder


def files(*folders: str) -> "list[str]":
    """The files in folders, without what Python compiles."""
    found = []
    for folder in folders:
        for here, inner, names in os.walk(os.path.join(ROOT, folder)):
            inner[:] = [name for name in inner if name != "__pycache__"]
            found += [os.path.join(here, name) for name in names]
    return found


def size(*folders: str) -> float:
    """Megabytes of the files in folders, without what links lead to."""
    return sum(os.lstat(path).st_size for path in files(*folders)) / 1e6


def lines(*folders: str) -> int:
    """Lines of the Python files in folders; those of bin have no ending."""
    found = 0
    for path in files(*folders):
        if os.path.splitext(path)[1] in ("", ".py"):
            with open(path, "rb") as file:
                found += sum(1 for _ in file)
    return found


def main() -> int:
    bench, scratch = Bench(), tempfile.mkdtemp(prefix="ao-bench-", dir="/tmp")
    try:
        sizes = (10, 30, 100, 1000)
        fleets = {count: fleet(os.path.join(scratch, str(count)), count) for count in sizes}
        homes = {count: os.path.join(folder, "home") for count, folder in fleets.items()}
        script = {name: os.path.join(BIN, name) for name in sorted(os.listdir(BIN))}
        bench.start("python3 -c pass", "", ["-c", "pass"], scratch, seed="")
        bench.start("ao-status, 30 sessions", "2.5 ×, 25 MB", [script["ao-status"]], homes[30])
        bench.start("ao-status --json, 1000 sessions", "4 ×", [script["ao-status"], "--json"], homes[1000])
        bench.start("ao-hook report ready", "1.5 ×", [script["ao-hook"], "report", "ready"], homes[10])
        for count in (10, 100, 1000):
            bench.tick(fleets[count], count, "1 s, 1 call, 0 written" if count == 1000 else "")
        bench.growth(os.path.join(scratch, "transcripts"), 200, 20_000_000)
        bench.forge(os.path.join(scratch, "forge"))
        bench.latency(3)
        for name, path in script.items():
            bench.start(f"{name} --help", "", [path, "--help"], scratch, times=5)
        code, packages = size("bin", "lib", "templates", "config"), size(".venv")
        bench.add("size; of .venv, with what tests need", f"{code:.1f} MB; {packages:.0f} MB", seed=SEED_SIZE)
        bench.add("lines of bin and lib", f"{lines('bin', 'lib'):,}", MOST_LINES, seed=SEED_LINES)
        show(bench.rows)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def show(rows: "list[tuple[str, ...]]") -> None:
    head = ("what", "measured", "bound", "of a bare start", "ao-rs")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "AO_"))}
    sys.exit(main())
