"""Faults against a whole pipeline: `python bench/faults.py [--only ROW …] [--tries N] [--minutes M] [--folder FOLDER]`.

Makes the pipeline of scale `tiny` once in FOLDER, then damages it in every way that a row of the table below tells of,
runs what was hit again, and compares every file with those of the undisturbed run. Results are kept in
FOLDER.notes/results.jsonl: a bench that is stopped goes on where it was. The table is printed after every row.

points    every write point of every stage: what it is, and the file (not a fault; the list of docs/reliability.md)
crash     each write point in turn: the process is killed there
torn      each write point in turn: killed, with half of the file it was writing on the disk
full      each write point in turn: from there on the disk is full
kill      SIGKILL of a stage at a random moment
term, int SIGTERM, SIGINT at a random moment: ends within 10 s, in one line
helpers   SIGKILL of a process that helps a stage, of two or three
orphans   SIGKILL of a stage that has helpers: none outlives it
machine   RLIMIT_AS too low for the stage; RLIMIT_FSIZE; few descriptors; a folder that can't be written
damage    one bit flipped, or a file cut, in every kind of file that one stage writes and another reads
same      the pipeline again in another folder, time zone, locale, umask, hash seed, with 2 and 7 workers, on one core

A try is lost where the rerun doesn't end with the bytes of the undisturbed run, and wrong where a stage ended with
status 0 and other bytes, or a file in sight was half-written.
"""

import argparse
import collections
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.faults.campaign import ALONE, Campaign, Ended, Point  # noqa: E402  (the path is the project's root)

Try = Callable[[], str]  # "survived", or "lost: …", "wrong: …", "unclear: …"
FLIPS = 60  # tries of each kind of damage for each kind of file
KINDS = {  # kind of file → (file, a stage that reads it)
    "parquet, pages": ("data/corpus/ingest/pages.parquet", "extract"),
    "parquet, documents": ("data/corpus/mix/train.parquet", "pack"),
    "token shards": ("data/tokens/pack/train.bin", "pretrain"),
    "tokenizer": ("data/tokens/tokenizer/tokenizer.json", "pack"),
    "safetensors": ("data/models/base/model.safetensors", "sft"),
    "optimizer": ("data/pretraining/pretrain/trunk/optimizer.safetensors", "anneal"),
    "JSON": ("data/scaling/plan/plan.json", "pretrain"),
    "JSON Lines": ("data/alignment/sft/steps.jsonl", "training_report"),
    "answers": ("data/judging/respond/sft/outputs.parquet", "judge@sft"),
    "annotations": ("data/judging/judge/sft/annotations.parquet", "leaderboard"),
    "record": ("data/tokens/pack/record.json", "pretrain"),
}


class Bench:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.results = folder.with_name(f"{folder.name}.notes") / "results.jsonl"
        self.campaign = Campaign(folder) if (folder / "params.yaml").exists() else Campaign.tiny(folder)
        self.done: dict[str, dict[str, str]] = collections.defaultdict(dict)
        if self.results.exists():
            for line in self.results.read_text(encoding="utf-8").splitlines():
                told = json.loads(line)
                self.done[told["row"]][told["try"]] = told["outcome"]

    def row(self, name: str, tries: Iterator[tuple[str, Try]], until: float) -> None:
        """Each try that wasn't made yet; a name of a try stands for the same try in every run of the bench."""
        for key, attempt in tries:
            if key in self.done[name]:
                continue
            if time.monotonic() > until:
                print(f"{name}: time is up", file=sys.stderr)
                return
            outcome = attempt()
            self.done[name][key] = outcome
            with self.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"row": name, "try": key, "outcome": outcome}) + "\n")
            if not outcome.startswith("survived"):
                print(f"{name}: {key}: {outcome}", file=sys.stderr, flush=True)

    def table(self) -> str:
        lines = [f"{'fault':<28} {'tries':>6} {'survived':>9} {'lost':>5} {'wrong':>6} {'unclear':>8}"]
        for name, tries in self.done.items():
            count = collections.Counter(outcome.partition(":")[0] for outcome in tries.values())
            lines.append(
                f"{name:<28} {len(tries):>6} {count['survived']:>9} {count['lost']:>5} {count['wrong']:>6} "
                f"{count['unclear']:>8}"
            )
        return "\n".join(lines)

    def points(self, kind: str) -> Iterator[tuple[str, Try]]:
        """In the order of the points' numbers, so that a bench that is stopped has seen all stages."""
        every = sorted(
            (point for found in self.campaign.points.values() for point in found), key=lambda one: one.number
        )
        for point in every:
            yield f"{point.stage} {point.number} {point.event} {point.path}", self._at(point, kind)

    def _at(self, point: Point, kind: str) -> Try:
        def attempt() -> str:
            # Half of the time as DVC starts a stage, without its outputs; else over those of an earlier run.
            if point.number % 2:
                self.campaign.remove_outputs(point.stage)
            before = self.campaign.files()
            ended = self.campaign.run(point.stage, kind, point.number)  # type: ignore[arg-type]
            if kind == "full":
                return self._refused(point.stage, ended, before)
            if ended.status not in (-signal.SIGKILL, 0):
                return f"unclear: ended with {ended.status} {ended.said[-300:]}"
            return self._again(point.stage)

        return attempt

    def _again(self, label: str) -> str:
        """After a stage was hit: nothing half-written in sight, and a rerun with the right bytes."""
        if found := self.campaign.half_written():
            self.campaign.restore(label)
            return f"wrong: half-written {found[:3]}"
        wrong = self.campaign.restore(label)
        return f"lost: {wrong[:3]}" if wrong else "survived"

    def _refused(self, label: str, ended: Ended, before: dict[str, str]) -> str:
        """After a machine that refuses: one line and status 2, no file changed, then a rerun with the right bytes; or
        the stage had what it needed."""
        after, said = self.campaign.files(), ended.said
        again = self._again(label)
        if again != "survived":
            return again
        if ended.status == 0:
            return "survived: had what it needed"
        if ended.status != 2 or not ended.line:
            return f"unclear: ended with {ended.status} {said[-300:]}"
        return "survived" if after == before else "lost: files changed though the stage failed"

    def signals(self, number: int, tries: int) -> Iterator[tuple[str, Try]]:
        """Of stages by turns, at a moment of their usual time."""
        labels = [label for label in self.campaign.stages if label != "check"]
        for count in range(tries):
            label = labels[count % len(labels)]
            share = random.Random(f"{number} {count}").uniform(0.0, 1.05)
            yield f"{count} {label} {share:.3f}", self._signalled(label, share, number)

    def _signalled(self, label: str, share: float, number: int) -> Try:
        def attempt() -> str:
            sent = 0.0

            def meanwhile(child: int) -> None:
                nonlocal sent
                time.sleep(share * self.campaign.seconds[label])
                sent = time.monotonic()
                os.kill(child, number)

            ended = self.campaign.run(label, meanwhile=meanwhile)
            took = time.monotonic() - sent
            again = self._again(label)
            if again != "survived" or number == signal.SIGKILL:
                return again
            if took > 10:
                return f"unclear: {took:.0f} s to end"
            if ended.status == 0 or (ended.status == 128 + number and ended.line):
                return "survived"
            if ended.status == -number and share < 0.1:
                return "survived: before it had begun"
            return f"unclear: ended with {ended.status} {ended.said[-300:]}"

        return attempt

    def helpers(self, tries: int, orphans: bool) -> Iterator[tuple[str, Try]]:
        labels = ["ladder", "sft", "dpo", "reward", "ppo", "grpo", "rft", "pretrain", "evaluate@sft", "respond@sft"]
        for count in range(tries):
            label = labels[count % len(labels)]
            share = random.Random(f"{orphans} {count}").uniform(0.05, 0.9)
            yield f"{count} {label} {share:.3f}", self._helped(label, share, orphans)

    def _helped(self, label: str, share: float, orphans: bool) -> Try:
        def attempt() -> str:
            helping: list[int] = []

            def meanwhile(child: int) -> None:
                time.sleep(share * self.campaign.seconds[label])
                helping.extend(_children(child))
                for victim in [child] if orphans else self.random.sample(helping, min(1, len(helping))):
                    os.kill(victim, signal.SIGKILL)
                if orphans:
                    time.sleep(1.0)  # those that live on are those that the kernel doesn't end
                    helping[:] = [one for one in helping if _alive(one)]

            ended = self.campaign.run(label, environment={"TRAINYARD_WORKERS": "3"}, meanwhile=meanwhile)
            again = self._again(label)
            if again != "survived":
                return again
            if orphans:
                return f"lost: {len(helping)} helpers outlived their stage" if helping else "survived"
            if ended.status == 0 or ended.line:
                return "survived" if helping else "survived: no helper at that moment"
            return f"unclear: ended with {ended.status} {ended.said[-300:]}"

        return attempt

    def machine(self) -> Iterator[tuple[str, Try]]:
        limits: dict[str, Callable[[], object]] = {
            f"RLIMIT_AS {mib} MiB more": lambda mib=mib: _limit(resource.RLIMIT_AS, _address_space() + (mib << 20))
            for mib in (1, 16, 64)
        }
        limits |= {
            f"RLIMIT_FSIZE {kib} KiB": lambda kib=kib: _limit(resource.RLIMIT_FSIZE, kib << 10) for kib in (0, 1, 8, 64)
        }
        limits |= {
            f"{count} descriptors": lambda count=count: _limit(resource.RLIMIT_NOFILE, count) for count in (6, 12)
        }
        limits["no folder for temporary files"] = lambda: os.environ.update(TMPDIR="/nonexistent")
        for label in self.campaign.stages:
            for name, limit in limits.items():
                yield f"{label}: {name}", self._limited(label, limit)

    def _limited(self, label: str, limit: Callable[[], object]) -> Try:
        def attempt() -> str:
            before = self.campaign.files()
            return self._refused(label, self.campaign.run(label, before=limit), before)

        return attempt

    def damage(self, tries: int) -> Iterator[tuple[str, Try]]:
        for count in range(tries):
            for kind, (name, reader) in KINDS.items():
                for how in ("bit", "cut"):
                    yield (
                        f"{kind}: {how} {count}",
                        self._damaged(name, reader, how, random.Random(f"{kind} {how} {count}")),
                    )

    def _damaged(self, name: str, reader: str, how: str, draw: random.Random) -> Try:
        def attempt() -> str:
            path = self.folder / name
            whole, state = path.read_bytes(), path.stat()
            place = draw.randrange(len(whole))
            data = bytearray(whole)
            data[place] ^= 1 << draw.randrange(8)
            path.write_bytes(whole[:place] if how == "cut" else bytes(data))
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
            self.campaign.remove_outputs(reader)
            ended = self.campaign.run(reader)
            path.write_bytes(whole)
            again = self._again(reader)
            if ended.status == 0:  # of a record: what no stage reads, such as its notes
                return again if name.endswith("record.json") else f"wrong: {name} was read with a fault at {place}"
            if again != "survived":
                return again
            named = name.rpartition("/")[2] in ended.line or str(Path(name).parent) in ended.line
            return "survived" if ended.status == 2 and named else f"unclear: {ended.status} {ended.said[-300:]}"

        return attempt

    def same(self) -> Iterator[tuple[str, Try]]:
        variants: dict[str, tuple[dict[str, str], Callable[[], object]]] = {
            "another folder, zone, locale, umask; 2 workers": (
                {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "TRAINYARD_WORKERS": "2"}, lambda: os.umask(0o077)),
            "7 workers": ({"TRAINYARD_WORKERS": "7"}, lambda: None),
            "one core": ({"TRAINYARD_WORKERS": "2"}, lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})),
        }  # fmt: skip
        for number, (name, (environment, before)) in enumerate(variants.items()):
            yield name, self._elsewhere(number, environment, before)

    def _elsewhere(self, number: int, environment: dict[str, str], before: Callable[[], object]) -> Try:
        def attempt() -> str:
            other = Campaign.tiny(self.folder.with_name(f"{self.folder.name} another {number}"))
            for label in other.stages:
                ended = other.run(label, environment=environment, before=before)
                if ended.status != 0:
                    return f"lost: {label} ended with {ended.status} {ended.said[-300:]}"
            other.expected = self.campaign.expected
            return f"wrong: {other.differences()[:5]}" if other.differences() else "survived"

        return attempt


def _children(process: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _limit(kind: int, value: int) -> None:
    if kind == resource.RLIMIT_FSIZE:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does at its start
    resource.setrlimit(kind, (value, value))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW")
    parser.add_argument("--tries", type=int, default=500, help="of rows at random moments")
    parser.add_argument("--minutes", type=float, default=10_000.0)
    parser.add_argument("--folder", type=Path, default=Path(".trainyard/faults/tiny"))
    asked = parser.parse_args()
    os.environ.update(ALONE)
    bench, until = Bench(asked.folder.resolve(), 0), time.monotonic() + 60 * asked.minutes
    bench.campaign.run_all()
    rows: dict[str, Callable[[], Iterator[tuple[str, Try]]]] = {
        "crash": lambda: bench.points("crash"),
        "torn": lambda: bench.points("torn"),
        "full": lambda: bench.points("full"),
        "kill": lambda: bench.signals(signal.SIGKILL, asked.tries),
        "term": lambda: bench.signals(signal.SIGTERM, asked.tries // 5),
        "int": lambda: bench.signals(signal.SIGINT, asked.tries // 5),
        "helpers": lambda: bench.helpers(asked.tries // 10, orphans=False),
        "orphans": lambda: bench.helpers(asked.tries // 10, orphans=True),
        "machine": bench.machine,
        "damage": lambda: bench.damage(FLIPS),
        "same": bench.same,
    }
    if unknown := set(asked.only) - {*rows, "points"}:
        parser.error(f"no row {', '.join(sorted(unknown))}; rows: points, {', '.join(rows)}")
    if not asked.only or "points" in asked.only:
        for label, points in bench.campaign.points.items():
            print(f"{label} ({bench.campaign.seconds[label]:.1f} s): {len(points)} write points")
            print("\n".join(f"  {point.number:>4} {point.event:<18} {point.path}" for point in points))
    for name, tries in rows.items():
        if not asked.only or name in asked.only:
            bench.row(name, tries(), until)
            print(bench.table(), flush=True)


if __name__ == "__main__":
    main()
