"""Error rates of verdicts: how often arms that are equal are called different, and how often intervals hold the truth.

    python bench/experiment/calibration.py [--nulls 2000] [--planted 2000]         # simulated, about a minute
    python bench/experiment/calibration.py --real [--data data] [--nulls 200]      # trainings, about 25 CPU minutes

Simulated: values of arms over seeds and items, with variances of seeds, items (in clusters) and what is left in several
ratios, through the functions that verdicts are made with. --real: models of the project's own packed tokens, trained by
the project's own loop; two arms that are the same but for their seeds; held-out rows as items; verdicts by `decide`.
Every rate is held against its bar; the exit status is 1 if one is missed.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TRAINYARD_TRACK", "off")
os.environ.setdefault("TRAINYARD_WORKERS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from stages.base.crossed import Estimate, contrast, holm, slope_weights
from stages.experiment.statistics import scaling_law, sequential
from stages.experiment.verdict import decide
from stages.judging.statistics.tiers import Scored, tiers

ALPHA = 0.05
REJECTED, COVERED = (2.4, 9.0), (92.0, 98.0)  # percent
SEEDS = (3, 5, 10)
ITEMS, CLUSTERS = 100, 25
EFFECT = 0.7


class Spread(NamedTuple):
    """Variances of what an arm has for itself, beside what all arms share: between seeds, between items, of what is
    left in one item of one seed; cluster: between groups of items."""

    seed: float
    item: float
    left: float
    cluster: float = 0.0

    def __str__(self) -> str:
        return ":".join(f"{value:g}" for value in self)


class Design(NamedTuple):
    seeds: bool
    items: bool

    def __str__(self) -> str:
        return f"{'same' if self.seeds else 'own'} seeds, {'same' if self.items else 'own'} items"

    @property
    def pairing(self) -> dict[str, bool]:
        return {"pair_seeds": self.seeds, "pair_items": self.items}


DESIGNS = [Design(True, True), Design(False, True), Design(True, False), Design(False, False)]
SPREADS = [
    Spread(1, 1, 1), Spread(0.1, 1, 1), Spread(0.01, 1, 1), Spread(0.3, 0.01, 1), Spread(0.02, 0.05, 1),
    Spread(1, 10, 1), Spread(0.3, 0.5, 1, 1), Spread(0.02, 0.1, 1, 1),
]  # fmt: skip
GROUP = np.arange(ITEMS) % CLUSTERS


def arms(rng: np.random.Generator, repeats: int, seeds: int, count: int, spread: Spread, design: Design) -> list[Any]:
    """[repeats, seeds, items] an arm: equal in expectation. What is drawn anew for each arm isn't shared."""

    def parts(seed: float, item: float) -> np.ndarray:
        return seed**0.5 * rng.normal(size=(repeats, seeds, 1)) + item**0.5 * rng.normal(size=(repeats, 1, ITEMS))

    shared = parts(float(design.seeds), 3.0 * design.items)
    return [
        shared
        + parts(float(not design.seeds), 3.0 * (not design.items))
        + parts(spread.seed, spread.item)
        + spread.cluster**0.5 * rng.normal(size=(repeats, 1, CLUSTERS))[..., GROUP]
        + spread.left**0.5 * rng.normal(size=(repeats, seeds, ITEMS))
        for _ in range(count)
    ]


def grouped(spread: Spread, count: int) -> list[np.ndarray] | None:
    return [GROUP] * count if spread.cluster else None


def right_answers(rng: np.random.Generator, repeats: int, seeds: int) -> list[np.ndarray]:
    """Two arms, 0 or 1 an item: easy and hard questions, better and worse trainings."""
    ease = 2 * rng.normal(size=(repeats, 1, ITEMS))
    found = []
    for _ in range(2):
        logit = ease + 0.3 * rng.normal(size=(repeats, seeds, 1)) + rng.normal(size=(repeats, 1, ITEMS))
        found.append((rng.random((repeats, seeds, ITEMS)) < 1 / (1 + np.exp(-logit))).astype(float))
    return found


class Rate(NamedTuple):
    analysis: str
    design: str
    seeds: int
    rejected: float
    """Percent of equal arms that were called different; of equivalence, of arms at the margin that were called
    equal."""
    covered: float | None
    """Percent of intervals that hold the planted effect."""

    @property
    def fine(self) -> bool:
        return REJECTED[0] <= self.rejected <= REJECTED[1] and (
            self.covered is None or COVERED[0] <= self.covered <= COVERED[1]
        )


def percent(hits: Any) -> float:
    return 100 * float(np.mean(hits))


def holds(found: Estimate, truth: float, level: float = 1 - ALPHA) -> np.ndarray:
    low, high = found.interval(level)
    return (low <= truth) & (truth <= high)


def two_sided(null: Estimate, planted: Estimate, effect: float = EFFECT) -> tuple[float, float]:
    return percent(null.p_two_sided() < ALPHA), percent(holds(planted, effect))


def differences(rng: np.random.Generator, nulls: int, planted: int) -> Iterator[Rate]:
    for seeds in SEEDS:
        for spread in SPREADS:
            clusters = grouped(spread, 2)
            for design in DESIGNS:
                a, b = arms(rng, nulls + planted, seeds, 2, spread, design)
                null = contrast([a[:nulls], b[:nulls]], [1, -1], clusters=clusters, **design.pairing)
                shifted = contrast([a[nulls:] + EFFECT, b[nulls:]], [1, -1], clusters=clusters, **design.pairing)
                yield Rate("difference", f"{design}; {spread}", seeds, *two_sided(null, shifted))
        found = contrast(right_answers(rng, nulls, seeds), [1, -1])
        yield Rate(
            "difference", "same seeds, same items; right answers", seeds, percent(found.p_two_sided() < ALPHA), None
        )
        for paired in (True, False):
            a, b = rng.normal(size=(2, nulls + planted, seeds, 1))
            b *= 1 if paired else 2
            null = contrast([a[:nulls], b[:nulls]], [1, -1], pair_seeds=paired)
            shifted = contrast([a[nulls:] + EFFECT, b[nulls:]], [1, -1], pair_seeds=paired)
            name = f"{'same' if paired else 'own'} seeds; one number a run"
            yield Rate("difference", name, seeds, *two_sided(null, shifted))
    a, b = arms(rng, nulls + planted, 1, 2, Spread(0, 1, 1), DESIGNS[0])
    null = contrast([a[:nulls], b[:nulls]], [1, -1])
    shifted = contrast([a[nulls:] + EFFECT, b[nulls:]], [1, -1])
    yield Rate("difference", "one training, same items", 1, *two_sided(null, shifted))


def equivalences(rng: np.random.Generator, nulls: int, planted: int) -> Iterator[Rate]:
    """Arms exactly a margin apart are called equal in alpha; a margin that is wide beside the noise, as it must be."""
    margin = 20.0
    for seeds in SEEDS:
        for spread in SPREADS[::3]:
            a, b = arms(rng, nulls, seeds, 2, spread, DESIGNS[0])
            found = contrast([a + margin, b], [1, -1], clusters=grouped(spread, 2))
            rejected = percent(found.p_equivalent(margin) < ALPHA)
            yield Rate("equivalence", f"at the margin; {spread}", seeds, rejected, None)
        gap = rng.normal(size=(nulls, seeds, 1))
        rejected = percent(contrast([gap - margin], [1.0]).p_equivalent(margin) < ALPHA)
        yield Rate("predicted", "reached a margin below", seeds, rejected, None)


def trends(rng: np.random.Generator, nulls: int, planted: int) -> Iterator[Rate]:
    levels = np.array([0.0, 1.0, 2.0, 5.0])
    weights = slope_weights(levels).tolist()
    for seeds in SEEDS:
        for spread in SPREADS[::2]:
            drawn = arms(rng, nulls + planted, seeds, 4, spread, DESIGNS[0])
            clusters = grouped(spread, 4)
            null = contrast([y[:nulls] for y in drawn], weights, clusters=clusters)
            moved = [y[nulls:] + EFFECT * x for y, x in zip(drawn, levels, strict=True)]
            shifted = contrast(moved, weights, clusters=clusters)
            yield Rate("trend", f"four arms; {spread}", seeds, *two_sided(null, shifted))


def orderings(rng: np.random.Generator, nulls: int, planted: int) -> Iterator[Rate]:
    """a > b > c of three equal arms, and where a is far ahead and b equals c: called ordered, or reversed."""
    for seeds in SEEDS:
        for name, ahead in (("all equal", 0.0), ("one ahead, two equal", 100.0)):
            a, b, c = arms(rng, nulls, seeds, 3, SPREADS[1], DESIGNS[0])
            pairs = [contrast([a + ahead, b], [1, -1]), contrast([b, c], [1, -1])]
            ordered = np.all([(one.p_two_sided() < ALPHA) & (one.effect > 0) for one in pairs], axis=0)
            below = np.array([one.p_below() for one in pairs]).T
            reversed_ = np.array([holm(p).min() < ALPHA for p in below])
            yield Rate("ordering", name, seeds, percent(ordered | reversed_), None)


def ladders(rng: np.random.Generator, nulls: int, planted: int) -> Iterator[Rate]:
    compute = np.geomspace(1e13, 1e15, 5)
    truth = 1.4

    def ladder(multiplier: float, shared: float) -> tuple[np.ndarray, np.ndarray]:
        loss = 1.5 + 2 * (compute * multiplier / 1e13) ** -0.2
        return compute, loss * np.exp(shared + 0.003 * rng.normal() + 0.003 * rng.normal(size=5))

    def measure(multiplier: float, seeds: int, paired: bool) -> Estimate:
        both = 0.01 * rng.normal(size=seeds) if paired else np.zeros(seeds)
        laws = scaling_law.fit_laws(
            {arm: [ladder(m, x) for x in both] for arm, m in (("a", multiplier), ("b", 1.0))}
        ).laws  # fmt: skip
        return scaling_law.compare(scaling_law.log_multiplier, laws["a"], laws["b"], paired)

    for seeds in SEEDS:
        for paired in (True, False):
            null = [measure(1.0, seeds, paired).p_two_sided() < ALPHA for _ in range(nulls)]
            inside = [holds(measure(truth, seeds, paired), np.log(truth)) for _ in range(planted)]
            name = f"multiplier, {'same' if paired else 'own'} seeds"
            yield Rate("scaling", name, seeds, percent(null), percent(inside))


def looks(rng: np.random.Generator, nulls: int, planted: int) -> Iterator[Rate]:
    """Called different at any look."""
    plans: list[tuple[list[int], sequential.Spending]] = [
        (at, spending) for at in ([3, 5, 8], [4, 6, 8, 10]) for spending in ("obrien_fleming", "pocock")
    ]
    for at, spending in plans:
        bounds = sequential.bounds([n / at[-1] for n in at], ALPHA, spending)
        own = rng.normal(size=(nulls, at[-1], 1))
        a, b = arms(rng, nulls, at[-1], 2, SPREADS[0], DESIGNS[0])
        for name, tables in (("one number a run", [own]), ("seeds and items", [a, b])):
            weights = [1.0, -1.0][: len(tables)]
            crossed = np.zeros(nulls, dtype=bool)
            for n, bound in zip(at, bounds, strict=True):
                crossed |= contrast([y[:, :n] for y in tables], weights).p_two_sided() < bound.level
            yield Rate("looks", f"{spending} at {', '.join(map(str, at))}; {name}", at[-1], percent(crossed), None)


def leaderboards(rng: np.random.Generator, nulls: int, planted: int) -> Iterator[Rate]:
    """Equal models in more than one tier."""
    for seeds, count in ((1, 2), (3, 2), (3, 4), (5, 4)):
        spread = SPREADS[1] if seeds > 1 else Spread(0, 1, 1)
        drawn = arms(rng, nulls, seeds, count, spread, DESIGNS[0])
        names = ("", *map(str, range(2, seeds + 1)))
        apart = [
            max(tiers({str(i): Scored(names, table[repeat]) for i, table in enumerate(drawn)}).values()) > 1
            for repeat in range(nulls)
        ]
        yield Rate("tiers", f"{count} equal models", seeds, percent(apart), None)


SIMULATED: list[Callable[[np.random.Generator, int, int], Iterator[Rate]]] = [
    differences, equivalences, trends, orderings, ladders, looks, leaderboards,
]  # fmt: skip


# ------------------------------------------------------------------------------------------------ real trainings

SEQUENCES, STEPS, WIDTH, HELD_OUT, TOKENS = 2, 10, 32, 40, 64
SIZES = (8, 16, 32)  # steps of a ladder's points


def trained(folder: Path) -> Callable[..., np.ndarray]:
    """A function that trains a tiny model with one seed on packed tokens, and gives its loss on each held-out row; with
    numbers of steps, after each of them, [sizes, rows]."""
    import torch

    from stages.base.contracts.pack import Pack
    from stages.base.files import read_json
    from stages.base.params import read_params
    from stages.base.recipe import Recipe
    from stages.lm.build import build_model
    from stages.lm.config import ModelConfig
    from stages.lm.data import PackedRows, batch_rows
    from stages.lm.packed_training import Batches, PackedTraining
    from stages.lm.rates import wsd

    torch.set_num_threads(1)
    pack = Pack.model_validate(read_json(folder / "pack.json"))
    rows, held_out = (PackedRows.of(folder / f"{name}.bin", pack) for name in ("train", "validation"))
    recipe = Recipe.model_validate(read_params(Path(__file__).resolve().parents[2] / "params.yaml")["recipe"])
    config = ModelConfig(
        arch="transformer", vocab_size=pack.vocab_size, n_layer=1, d_model=WIDTH, n_head=2, n_kv_head=1,
        d_ff=2 * WIDTH, max_seq_len=pack.seq_len, rope_theta=recipe.rope_theta, tie_embeddings=recipe.tie_embeddings,
        qk_norm=recipe.qk_norm, norm_eps=recipe.norm_eps,
    )  # fmt: skip
    places = np.linspace(0, len(held_out) - 1, HELD_OUT).astype(int)
    ids = torch.from_numpy(held_out.rows[places, : TOKENS + 1].astype(np.int64))

    def train(seed: int, sizes: Sequence[int] = (STEPS,)) -> np.ndarray:
        model = build_model(config, seed)
        batches = Batches(
            lambda step: rows.rows[batch_rows(seed, step, SEQUENCES, len(rows))], SEQUENCES, pack.seq_len, pack.pad_id,
            pack.bos_id,
        )  # fmt: skip
        found: list[np.ndarray] = []
        steps, cooldown = sizes[-1], sizes[-1] // 4 if len(sizes) == 1 else 0

        def look(step: int) -> None:
            if step in sizes:
                found.append(held_out_loss(model))

        with PackedTraining(model, recipe, batches, steps, silent=True) as training:
            training.train(
                lambda step: wsd(step, steps, 4, cooldown),
                steps,
                name="calibration",
                facts={"seed": seed},
                on_step=look,
            )
        return found[0] if len(sizes) == 1 else np.stack(found)

    def held_out_loss(model: torch.nn.Module) -> np.ndarray:
        with torch.no_grad():
            logits = model.eval()(ids[:, :-1])
        model.train()
        targets = ids[:, 1:]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        loss, known = loss.view(targets.shape), targets != pack.pad_id
        return ((loss * known).sum(1) / known.sum(1)).numpy()

    return train


def real(data: Path, nulls: int) -> Iterator[Rate]:
    """Each null experiment has six trainings of its own: two arms of three seeds, or three arms of two."""
    train = trained(data / "tokens" / "pack")
    found = np.stack([train(seed) for seed in range(6 * nulls)]).reshape(nulls, 6, HELD_OUT)
    spread = contrast([found[:, :3], found[:, 3:]], [1, -1], pair_seeds=False)
    print(
        f"{6 * nulls} trainings; variances of a gap: seeds {np.mean(spread.seed_variance):.2e}, items "
        f"{np.mean(spread.item_variance):.2e}, left {np.mean(spread.residual_variance):.2e}"
    )

    def table(values: np.ndarray, count: int, shift: float = 0.0) -> list[dict[str, Any]]:
        seeds = len(values) // count
        return [
            {"arm": "abc"[i // seeds], "seed": i % seeds, "item": str(j), "value": value + shift * (i < seeds)}
            for i, row in enumerate(values)
            for j, value in enumerate(row)
        ]

    def means(values: np.ndarray, **more: Any) -> list[dict[str, Any]]:
        return [{"arm": "ab"[i // 3], "seed": i % 3, "value": row.mean(), **more} for i, row in enumerate(values)]

    for design, pair, make in (
        ("same seeds, same items", ["seed", "item"], lambda v: table(v, 2)),
        ("own seeds, same items", ["item"], lambda v: table(v, 2)),
        ("same seeds; one number a run", ["seed"], means),
        ("own seeds; one number a run", [], means),
    ):
        words = [decide({"rule": "a > b", "pair": pair}, make(values)).verdict for values in found]
        yield Rate("difference", f"{design}; real", 3, percent([word != "undecided" for word in words]), None)
    sd = float(found.mean(2).std())
    margin = 20 * sd
    words = [decide({"rule": f"a = b ± {margin}"}, table(values, 2, margin)).verdict for values in found]
    yield Rate("equivalence", "at the margin; real", 3, percent([word == "supported" for word in words]), None)
    words = [
        decide(
            {"rule": f"reached = predicted ± {margin}", "arms": {"a": {}}}, means(values, predicted=centre)[:3]
        ).verdict
        for values, centre in ((values, float(found.mean()) - margin) for values in found)
    ]
    yield Rate("predicted", "reached a margin above; real", 3, percent([word == "supported" for word in words]), None)
    for rule in ("increasing", "a > b > c"):
        words = [decide({"rule": rule}, table(values, 3)).verdict for values in found]
        name = "trend" if rule == "increasing" else "ordering"
        yield Rate(name, "three arms; real", 2, percent([word != "undecided" for word in words]), None)


def real_ladders(data: Path, nulls: int) -> Iterator[Rate]:
    """Each null experiment has two arms of three seeds; a seed's ladder is one training, looked at three times."""
    train = trained(data / "tokens" / "pack")
    found = [[train(6 * null + i, SIZES).mean(1) for i in range(6)] for null in range(nulls)]
    rows = [
        [
            {"arm": "ab"[i // 3], "seed": i % 3, "item": str(steps), "value": value, "compute": float(steps)}
            for i, ladder in enumerate(six)
            for steps, value in zip(SIZES, ladder, strict=True)
        ]
        for six in found
    ]
    for pair, design in (([], "own seeds"), (["seed"], "same seeds")):
        for rule in ("multiplier(a, b) > 1", "slope(a) < slope(b)"):
            words = [decide({"rule": rule, "pair": pair}, one).verdict for one in rows]
            yield Rate("scaling", f"{rule}, {design}; real", 3, percent([word != "undecided" for word in words]), None)


def show(rates: Iterator[Rate]) -> list[Rate]:
    missed = []
    for rate in rates:
        covered = "" if rate.covered is None else f"{rate.covered:5.1f}"
        print(f"{rate.analysis:12} {rate.design:55} {rate.seeds:3d} {rate.rejected:5.1f} {covered}", flush=True)
        if not rate.fine:
            missed.append(rate)
    return missed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nulls", type=int, help="null experiments a row (default: 2000, or 200 real ones)")
    parser.add_argument("--planted", type=int, default=2000, help="experiments with a planted effect a row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true", help="train models instead of drawing numbers")
    parser.add_argument("--data", type=Path, default=Path("data"), help="of a project whose tokens are packed")
    options = parser.parse_args(arguments)
    begin, cpu = time.perf_counter(), time.process_time()
    print(f"{'analysis':12} {'design; variances seed:item:left[:cluster]':55} seeds called, % covered, %")
    missed: list[Rate] = []
    if options.real:
        for trainings in (real, real_ladders):
            missed += show(trainings(options.data, options.nulls or 200))
    else:
        for analysis in SIMULATED:
            missed += show(analysis(np.random.default_rng(options.seed), options.nulls or 2000, options.planted))
    print(f"{time.perf_counter() - begin:.0f} s, {time.process_time() - cpu:.0f} CPU s")
    for rate in missed:
        print(f"outside of {REJECTED} or {COVERED}: {rate.analysis}, {rate.design}, {rate.seeds} seeds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
