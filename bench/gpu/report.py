"""The report of `bench/gpu/run.py` in Markdown: every bar beside what was measured."""

import statistics
from typing import Any

RATIO = 1.25  # of nanoGPT's better mode, tokens a second
UTILISATION = {"124M": 0.45, "350M": 0.50, "1.3B": 0.57}  # of the data sheet's peak, our better mode


def markdown(report: dict[str, Any]) -> str:
    machine, pieces = report["machine"], report["pieces"]
    memory = f", {machine['memory_gib']:.0f} GiB" if machine["memory_gib"] else ""
    peak = f"{machine['peak_tflops']:g} TFLOP/s (dense bf16)" if machine["peak_tflops"] else "unknown here"
    lines = [
        f"# {machine['device']}, {report['date']}",
        "",
        f"`python bench/gpu/run.py`: torch {machine['torch']}, CUDA {machine['cuda']}{memory}; data sheet: {peak}.",
    ]
    if report["missing"]:
        lines += ["", f"Not measured yet: {', '.join(report['missing'])}."]
    if "checks" in pieces:
        lines += ["", "## Correctness", "", *checks(pieces["checks"])]
    speeds = [found for piece, found in pieces.items() if piece != "checks"]
    if speeds:
        lines += [
            "",
            "## Training step",
            "",
            *rows(speeds, machine["peak_tflops"]),
            "",
            *bars(speeds, machine["peak_tflops"]),
        ]
    return "\n".join(lines) + "\n"


def checks(found: Any) -> list[str]:
    if "error" in found:
        return [f"**Failed**: {found['error']}"]
    lines = ["| check | measured | at most | |", "|---|---|---|---|"]
    for one in found:
        lines.append(
            f"| {one['name']} | {one['measured']:.2g} | {one['bar']:.2g} | {'met' if one['met'] else '**missed**'} |"
        )
    return lines


def rows(speeds: list[dict[str, Any]], peak_tflops: float | None) -> list[str]:
    lines = [
        "MFU = tokens/s · (6·N + 12·L·C·T) / peak: of the data sheet, and of the matrix product measured in turn.",
        "",
        "| | mode | rows at once | tokens/s (range) | MFU, sheet | MFU, product | peak GiB | product, TFLOP/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in speeds:
        for name, facts in one["contenders"].items():
            who = f"| {one['shape']} {'ours' if name == 'ours' else 'nanoGPT'} | {one['mode']} |"
            if "error" in facts:
                lines.append(f"{who} **failed**: {facts['error'].replace('|', '/')} | | | | | |")
                continue
            turns, speed = facts["turns"], statistics.median(facts["turns"])
            sheet = f"{speed * one['flops_per_token'] / (peak_tflops * 1e12):.1%}" if peak_tflops else "unknown"
            product = one["gemm_flops_per_second"]
            share = f"{speed * one['flops_per_token'] / product:.1%}"
            lines.append(
                f"{who} {facts['rows']} | {speed:,.0f} ({min(turns):,.0f}–{max(turns):,.0f}) | {sheet} "
                f"| {share} | {facts['peak_mib'] / 1024:.2f} | {product / 1e12:.3g} |"
            )
    return lines


def bars(speeds: list[dict[str, Any]], peak_tflops: float | None) -> list[str]:
    lines = ["| bar | measured | |", "|---|---|---|"]
    for shape in dict.fromkeys(one["shape"] for one in speeds):
        best: dict[str, float] = {}
        for one in speeds:
            for name, facts in one["contenders"].items():
                if one["shape"] == shape and "turns" in facts:
                    best[name] = max(best.get(name, 0.0), statistics.median(facts["turns"]))
        flops = next(one["flops_per_token"] for one in speeds if one["shape"] == shape)
        if {"ours", "nanogpt"} <= set(best):
            ratio = best["ours"] / best["nanogpt"]
            lines.append(verdict(f"{shape}: ≥ {RATIO:g}x nanoGPT, better modes", f"{ratio:.2f}x", ratio >= RATIO))
        if "ours" in best and peak_tflops and shape in UTILISATION:
            share = best["ours"] * flops / (peak_tflops * 1e12)
            goal = UTILISATION[shape]
            lines.append(verdict(f"{shape}: MFU ≥ {goal:.0%} of the data sheet", f"{share:.1%}", share >= goal))
    return lines


def verdict(bar: str, measured: str, met: bool) -> str:
    return f"| {bar} | {measured} | {'met' if met else '**missed**'} |"
