"""MMLU as its authors score it: choices shown with letters, the likeliest letter is the answer.

Hendrycks et al. 2021, `evaluate.py`. Examples in the order of their file; the last ones go where the prompt is too
long. The authors read letters from the 100 likeliest tokens of an API, with -100 for one that isn't among them; here
each letter is scored, and one that a tokenizer splits (" " and "A") is scored as a whole.
"""

from stages.evaluation.protocols.choices import MostLikely
from stages.evaluation.protocols.wording import Wording

# The two spaces before the subject are in the authors' code, and so in what published numbers were measured with.
INSTRUCTION = "The following are multiple choice questions (with answers) about  {subject}.\n\n"

ORIGINAL = MostLikely("original", 1, Wording(INSTRUCTION))
