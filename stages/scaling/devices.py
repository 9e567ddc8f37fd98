"""Accelerators: dense peaks (never the doubled sparse figures of data sheets), board power, rent."""

from dataclasses import dataclass

from stages.base.errors import ParamError


@dataclass(frozen=True)
class Device:
    """Peak in TFLOP/s of dense bf16 (fp16 where there is no bf16) matrix products; power in W; rent in USD an hour."""

    label: str
    peak_tflops: float
    power_w: float
    usd_per_hour: float


# Peaks and power: vendors' data sheets (SXM boards where there is a choice). Rent: round figures of on-demand markets,
# an assumption that every printed cost repeats; only the H100's $2 has a source (the lecture's).
DEVICES = {
    "t4": Device("T4", 65, 70, 0.2),
    "v100": Device("V100 SXM", 125, 300, 0.5),
    "a10": Device("A10", 125, 150, 0.5),
    "a100": Device("A100 SXM", 312, 400, 1.3),
    "h100": Device("H100 SXM", 989, 700, 2.0),
    "h100_pcie": Device("H100 PCIe", 756, 350, 1.8),
    "h800": Device("H800 SXM", 989, 700, 2.0),
    "h20": Device("H20 SXM", 148, 400, 1.0),
    "h200": Device("H200 SXM", 989, 700, 2.5),
    "b200": Device("B200 SXM", 2250, 1000, 4.0),
    "mi250x": Device("MI250X", 383, 560, 1.0),
    "mi300x": Device("MI300X", 1307, 750, 2.0),
    "mi325x": Device("MI325X", 1307, 1000, 2.3),
    "l4": Device("L4", 121, 72, 0.4),
    "l40s": Device("L40S", 362, 350, 0.9),
    "rtx4090": Device("RTX 4090", 165, 450, 0.4),
    "tpu_v4": Device("TPU v4", 275, 192, 2.0),
}


def device(name: str) -> Device:
    """Raises ParamError listing the known devices."""
    key = name.lower().replace("-", "_")
    if key not in DEVICES:
        raise ParamError(f"unknown device {name!r}; known: {', '.join(DEVICES)}")
    return DEVICES[key]
