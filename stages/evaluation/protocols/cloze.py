"""The choices are not shown: each is scored as the answer's text (`mmlu_continuation` of the LM Evaluation Harness).

Small models know answers long before they know what "Answer: C" means: this protocol tells them apart.
"""

from stages.evaluation.protocols.choices import MostLikely
from stages.evaluation.protocols.wording import Wording

INSTRUCTION = "The following are questions (with answers) about {subject}.\n\n"

CLOZE = MostLikely(
    "cloze", 1, Wording(INSTRUCTION, question="Question: {question}", option="", answer="{choice}", strip=True)
)
