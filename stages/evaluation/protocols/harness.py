"""MMLU as the LM Evaluation Harness asked it until mid-2023: choices shown, the whole answer is scored.

The form that the Open LLM Leaderboard's scores of its first months were made with, as its authors describe it
(https://huggingface.co/blog/open-llm-leaderboard-mmlu, June 2023): no instruction, and the answer is letter and text.
The harness' code at the commit they name (e47e01b, `hendrycks_test.py`) scores the text without its letter: that is
the variant `harness-text`.
"""

from stages.evaluation.protocols.choices import MostLikely
from stages.evaluation.protocols.wording import Wording

HARNESS = MostLikely(
    "harness", 1, Wording(question="Question: {question}", heading="Choices:", answer="{letter}. {choice}")
)
