import numpy as np

from stages.annotators.sides import side_preference


def test_a_judge_that_prefers_a_side() -> None:
    generator = np.random.default_rng(0)
    first = generator.random(400) < 0.5
    always = side_preference(np.where(first, 2.0, 1.0), first)
    assert always.share == 1 and always.one_sided
    assert side_preference(np.where(first, 1.1, 1.9), first).one_sided  # always the second
    fair = side_preference(generator.choice([1.0, 2.0, 1.5, np.nan], 400), first)
    assert fair.n < 250 and not fair.one_sided
    leaning = side_preference(np.where(first ^ (generator.random(400) < 0.3), 2.0, 1.0), first)
    assert 0.6 < leaning.share < 0.8 and not leaning.one_sided
    assert not side_preference([1.5], [True]).one_sided
