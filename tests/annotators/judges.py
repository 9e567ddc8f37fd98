"""Annotator settings for tests: a quiet, unbiased pool unless told otherwise."""

from stages.annotators.client import AnnotatorSettings
from stages.annotators.pool import PoolSettings

PROMPT = "stages/annotators/prompts/pairwise.txt"


def pool_settings(**over: float) -> PoolSettings:
    quiet = {
        "annotators": 4,
        "score_weight": 2.0,
        "length_bias": 0.0,
        "length_scale": 40.0,
        "spread": 0.0,
        "position_bias": 0.0,
        "noise": 0.0,
        "label_noise": 0.0,
    }
    return PoolSettings(**(quiet | over))


def settings(pool: PoolSettings | None = None, **over: object) -> AnnotatorSettings:
    values: dict = {
        "provider": "simulated",
        "base_url": "http://127.0.0.1:1/v1",
        "model": "some-judge",
        "api_key_env": "TRAINYARD_TEST_KEY",
        "prompt": PROMPT,
        "temperature": 0.0,
        "max_tokens": 1,
        "logprobs": True,
        "order": "random",
        "concurrency": 8,
        "max_retries": 4,
        "timeout_s": 5.0,
        "max_cost_usd": 1.0,
        "usd_per_million_input": 1.0,
        "usd_per_million_output": 1.0,
        "pool": pool or pool_settings(),
    }
    return AnnotatorSettings(**(values | over))
