"""The bill: independent arithmetic, monotone ranges, and refusal of nonsense."""

import pytest

from stages.base.errors import ParamError
from stages.lm import accelerators
from stages.scaling.budget.cost import Assumptions, Attention, estimate, render


def test_attention_share_of_palm() -> None:
    """PaLM 540B, appendix B: 46.2 % MFU with attention, 45.7 % without; 118 layers, 48 heads of 256, 2,048 tokens."""
    with_attention = estimate(540.35e9, 780e9, attention=Attention(118, 48 * 256, 2048))
    ratio = float(with_attention.flops) / float(estimate(540.35e9, 780e9).flops)
    assert ratio == pytest.approx(46.2 / 45.7, abs=2e-3)


def test_active_parameters_set_the_flops_of_a_mixture_of_experts() -> None:
    """DeepSeek-V3: 37 B of 671 B active, 14.8 T tokens, 2.664 M H800 hours published."""
    cost = estimate(671e9, 14.8e12, active_params=37e9, device="h800")
    assert float(cost.flops) == pytest.approx(3.286e24, rel=1e-3)
    assert cost.gpu_hours.low < 2.664e6 < cost.gpu_hours.high
    assert "active" in cost.flops.assumption


def test_ranges_are_ordered_and_follow_the_utilisation() -> None:
    cost = estimate(7e9, 2e12, gpus=64, device="a100")
    for quantity in (cost.gpu_hours, cost.days, cost.rent_usd, cost.usd, cost.energy_mwh, cost.tco2eq):
        assert quantity.low < quantity.value < quantity.high
        assert quantity.high / quantity.low == pytest.approx(2.0)
    assert float(cost.days) == pytest.approx(float(cost.gpu_hours) / 64 / 24)


def test_salaries_are_a_sum_and_not_a_rate() -> None:
    cost = estimate(1e9, 1e11, assumptions=Assumptions(people=3, usd_per_person=100_000))
    assert float(cost.usd) == pytest.approx(float(cost.rent_usd) + 300_000)


def test_attention_is_counted_and_said() -> None:
    """GPT-3 175B (Brown et al. 2020: 96 layers of 12,288, 2,048 tokens): 12·L·W·T is 2.8 % of 6·N."""
    cost = estimate(175e9, 3e11, attention=Attention(96, 12288, 2048))
    assert float(cost.flops) / (6 * 175e9 * 3e11) == pytest.approx(1 + 2 * 96 * 12288 * 2048 / 175e9)
    assert "2.8% more for attention over 2048 tokens" in cost.flops.assumption


def test_tokens_per_parameter_are_of_the_active_ones() -> None:
    assert float(estimate(70e9, 1.4e12).tokens_per_parameter) == 20  # Chinchilla
    assert float(estimate(671e9, 14.8e12, active_params=37e9).tokens_per_parameter) == pytest.approx(400)


def test_every_device_states_a_dense_peak() -> None:
    """Half of the data sheets' figures with sparsity."""
    sparse = {"a100": 624, "h100": 1979, "h200": 1979, "l4": 242, "l40s": 733, "b200": 4500, "h100_pcie": 1513}
    for key, doubled in sparse.items():
        assert accelerators.ACCELERATORS[key].peak_tflops == pytest.approx(doubled / 2, rel=0.02)
    with pytest.raises(ParamError, match="known: t4, v100"):
        accelerators.named("abacus")


def test_every_printed_line_carries_its_assumption() -> None:
    text = render(estimate(405e9, 15.6e12, gpus=16_000, device="h100"))
    lines = text.splitlines()
    for name in (
        "compute",
        "tokens per parameter",
        "GPU-hours",
        "wall time",
        "rent",
        "people",
        "total",
        "energy",
        "emissions",
    ):
        assert any(line.startswith(name) for line in lines)
    for assumption in ("22%-44%", "989 TFLOP/s", "$2 per GPU-hour", "PUE 1.1", "kg per kWh", "16000 x H100"):
        assert assumption in text
    assert "below it" in text and "1e+26" in text
    assert "above it" in render(estimate(2e12, 1e13))


def test_small_runs_are_told_in_small_units() -> None:
    text = render(estimate(1e6, 1e8))
    for said in ("GPU-seconds", "1.95 (1.38 to 2.76) seconds", "US cents", "Wh", "g CO₂eq", "0 USD"):
        assert said in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"params": -1, "tokens": 1e9}, "params must be a positive number"),
        ({"params": 1e9, "tokens": float("nan")}, "tokens must be a positive number"),
        ({"params": 1e9, "tokens": 1e9, "gpus": 0}, "gpus must be a positive number"),
        ({"params": 1e9, "tokens": 1e9, "active_params": 2e9}, "exceed"),
        ({"params": 1e9, "tokens": 1e9, "device": "h1000"}, "known: .*h100"),
        ({"params": 1e9, "tokens": 1e9, "assumptions": Assumptions(mfu=(0.5, 0.2))}, "mfu must be a range"),
        ({"params": 1e9, "tokens": 1e9, "assumptions": Assumptions(tflops=990)}, "tflops 990 is above the H100 SXM's"),
        ({"params": 1e9, "tokens": 1e9, "assumptions": Assumptions(pue=0.5)}, "pue must be at least 1"),
        ({"params": 1e9, "tokens": 1e9, "attention": Attention(-1, 10, 10)}, "^layers must be a positive number"),
        ({"params": 405, "tokens": 15.6e12}, "params 405 make no language model; write them out, as 405e9"),
        ({"params": 405e9, "tokens": 15.6}, "tokens 15.6 make no"),
        ({"params": 1e9, "tokens": 1e9, "assumptions": Assumptions(kg_per_kwh=380)}, "380 g are 0.38 kg"),
        ({"params": 1e9, "tokens": 1e9, "assumptions": Assumptions(pue=110)}, "110 % is 1.1"),
        ({"params": 1e308, "tokens": 1e308}, "flops would be beyond any number"),
        ({"params": 1e150, "tokens": 1e150, "assumptions": Assumptions(usd_per_gpu_hour=1e30)}, "rent_usd would be"),
    ],
)
def test_refuses_nonsense(arguments: dict, said: str) -> None:
    with pytest.raises(ParamError, match=said):
        estimate(**arguments)
