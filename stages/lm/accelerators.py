"""Accelerators: what data sheets promise, and what an hour of them is rented for."""

from dataclasses import dataclass

from stages.base.errors import ParamError


@dataclass(frozen=True)
class Accelerator:
    """Peak in TFLOP/s of dense bf16 matrix products that add up in fp32 (fp16 where there is no bf16; never the doubled
    figure with sparsity); power of the board in W; rent in USD an hour; the whole names that drivers give, so that a
    slice of a board (MIG) or a laptop's part of the same name isn't taken for it.
    """

    label: str
    peak_tflops: float
    power_w: float
    usd_per_hour: float
    drivers: tuple[str, ...] = ()

    def kwh(self, hours: float) -> float:
        """Upper estimate: the whole board's power for so many hours, without its host and cooling."""
        return self.power_w * hours / 1000


# Peaks and power: vendors' data sheets (NVIDIA T4, V100, A10, A40, A100, H100, H20, H200, HGX B200, L4, L40, L40S, RTX
# A6000; AMD Instinct MI250X, MI300X, MI325X; Google TPU v4); GeForce: appendix A of NVIDIA's white papers on GA102 and
# Ada, "BF16 with FP32 accumulate". Rent: round figures of on-demand markets, an assumption that every printed cost
# repeats; only the H100's $2 has a source (the lecture's).
ACCELERATORS = {
    "t4": Accelerator("T4", 65, 70, 0.2),
    "v100": Accelerator("V100 SXM", 125, 300, 0.5),
    "a10": Accelerator("A10", 125, 150, 0.5, ("NVIDIA A10",)),
    "a40": Accelerator("A40", 149.7, 300, 0.4, ("NVIDIA A40",)),
    "a100": Accelerator("A100 SXM", 312, 400, 1.3, ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB")),
    "a100_pcie_40gb": Accelerator("A100 PCIe 40 GB", 312, 250, 1.0, ("NVIDIA A100-PCIE-40GB",)),
    "a100_pcie": Accelerator("A100 PCIe", 312, 300, 1.2, ("NVIDIA A100 80GB PCIe",)),
    "h100": Accelerator("H100 SXM", 989, 700, 2.0, ("NVIDIA H100 80GB HBM3",)),
    "h100_pcie": Accelerator("H100 PCIe", 756, 350, 1.8, ("NVIDIA H100 PCIe",)),
    "h100_nvl": Accelerator("H100 NVL", 835, 400, 1.9, ("NVIDIA H100 NVL",)),
    "h800": Accelerator("H800 SXM", 989, 700, 2.0, ("NVIDIA H800",)),
    "h20": Accelerator("H20 SXM", 148, 400, 1.0),
    "h200": Accelerator("H200 SXM", 989, 700, 2.5, ("NVIDIA H200",)),
    "h200_nvl": Accelerator("H200 NVL", 835, 600, 2.3, ("NVIDIA H200 NVL",)),
    "b200": Accelerator("B200 SXM", 2250, 1000, 4.0, ("NVIDIA B200",)),
    "mi250x": Accelerator("MI250X", 383, 560, 1.0),
    "mi300x": Accelerator("MI300X", 1307, 750, 2.0, ("AMD Instinct MI300X",)),
    "mi325x": Accelerator("MI325X", 1307, 1000, 2.3),
    "l4": Accelerator("L4", 121, 72, 0.4, ("NVIDIA L4",)),
    "l40": Accelerator("L40", 181, 300, 0.7, ("NVIDIA L40",)),
    "l40s": Accelerator("L40S", 362, 350, 0.9, ("NVIDIA L40S",)),
    "rtx3090": Accelerator("RTX 3090", 71, 350, 0.2, ("NVIDIA GeForce RTX 3090",)),
    "rtx4090": Accelerator("RTX 4090", 165.2, 450, 0.4, ("NVIDIA GeForce RTX 4090",)),
    "rtx_a6000": Accelerator("RTX A6000", 154.8, 300, 0.4, ("NVIDIA RTX A6000",)),
    "tpu_v4": Accelerator("TPU v4", 275, 192, 2.0),
}


def named(key: str) -> Accelerator:
    """The accelerator of a key of params or of the command line. Raises ParamError listing the known ones."""
    name = key.lower().replace("-", "_")
    if name not in ACCELERATORS:
        raise ParamError(f"unknown device {key!r}; known: {', '.join(ACCELERATORS)}")
    return ACCELERATORS[name]


def driven(name: str) -> Accelerator | None:
    """The accelerator whose driver gives this name (`torch.cuda.get_device_name`); None where the table has none."""
    return next((board for board in ACCELERATORS.values() if name in board.drivers), None)
