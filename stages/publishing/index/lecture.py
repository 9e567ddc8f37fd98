"""What the lecture claims that the pipeline follows, and where the pages show it."""

from collections.abc import Sequence

# claim, page, section
CLAIMS = (
    ("Data decides: extraction, filters, deduplication and the mixture shape a model more than its architecture does.",
     "corpus", "steps"),
    ("Loss falls along a law in size and data, so that small runs can plan a large one.", "scaling", "compute"),
    ("At every budget there is a best size; serving the model shifts it towards smaller ones trained for longer.",
     "index", "cost"),
    ("What a large training run costs can be reckoned on the back of an envelope.", "index", "cost"),
    ("Pretraining ends on the best text, with the learning rate falling to zero.", "training", "pretraining"),
    ("Perplexity depends on the tokenizer, and the accuracy of a task on how its questions are put.",
     "evaluation", "tasks"),
    ("A test set that was in the training data can be noticed by the order of its questions.",
     "evaluation", "contamination"),
    ("Fine-tuning teaches how to answer and hardly any knowledge; a few thousand examples do.",
     "training", "alignment"),
    ("DPO reaches what PPO reaches, with less machinery.", "alignment", "methods"),
    ("A judge ranks models for a fraction of what people cost, but likes long answers: the length has to be "
     "controlled for.", "leaderboard", "leaderboard"),
)  # fmt: skip


def claims(pages: Sequence[str]) -> list[dict[str, str]]:
    """Those that one of the pages shows."""
    return [
        {"claim": claim, "page": page, "link": f"#{section}" if page == "index" else f"{page}.html#{section}"}
        for claim, page, section in CLAIMS
        if page == "index" or page in pages
    ]
