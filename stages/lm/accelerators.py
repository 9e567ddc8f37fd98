"""What data sheets promise of the accelerators that training runs on: one denominator of an MFU, and the power."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Accelerator:
    """Peak of dense bf16 matrix products that add up in fp32, in TFLOP/s (never the doubled figure with sparsity);
    power of the board in W.
    """

    peak_tflops: float
    power_w: float

    def kwh(self, hours: float) -> float:
        """Upper estimate: the whole board's power for so many hours, without its host and cooling."""
        return self.power_w * hours / 1000


# By the whole name that the driver gives, so that a slice of a board (MIG) or a laptop's part of the same name isn't
# taken for it. Sources: vendors' data sheets (NVIDIA A10, A40, A100, H100, H200, HGX B200, L4, L40, L40S, RTX A6000;
# AMD Instinct MI300X); GeForce: appendix A of NVIDIA's white papers on GA102 and Ada, "BF16 with FP32 accumulate".
ACCELERATORS = {
    "NVIDIA A10": Accelerator(125, 150),
    "NVIDIA A40": Accelerator(149.7, 300),
    "NVIDIA A100-PCIE-40GB": Accelerator(312, 250),
    "NVIDIA A100 80GB PCIe": Accelerator(312, 300),
    "NVIDIA A100-SXM4-40GB": Accelerator(312, 400),
    "NVIDIA A100-SXM4-80GB": Accelerator(312, 400),
    "NVIDIA H100 PCIe": Accelerator(756, 350),
    "NVIDIA H100 NVL": Accelerator(835, 400),
    "NVIDIA H100 80GB HBM3": Accelerator(989, 700),
    "NVIDIA H800": Accelerator(989, 700),
    "NVIDIA H200 NVL": Accelerator(835, 600),
    "NVIDIA H200": Accelerator(989, 700),
    "NVIDIA B200": Accelerator(2250, 1000),
    "NVIDIA L4": Accelerator(121, 72),
    "NVIDIA L40": Accelerator(181, 300),
    "NVIDIA L40S": Accelerator(362, 350),
    "NVIDIA RTX A6000": Accelerator(154.8, 300),
    "NVIDIA GeForce RTX 3090": Accelerator(71, 350),
    "NVIDIA GeForce RTX 4090": Accelerator(165.2, 450),
    "AMD Instinct MI300X": Accelerator(1307, 750),
}


def known(name: str) -> Accelerator | None:
    """The accelerator of this device name (`torch.cuda.get_device_name`); None where the table doesn't have it."""
    return ACCELERATORS.get(name)
