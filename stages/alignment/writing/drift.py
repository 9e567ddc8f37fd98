"""How what a model writes moves away from what people wrote, generation by generation.

All numbers of one set of tasks are comparable with those of the seeds, which are generation 0.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from stages.alignment.writing.few_shot import Task
from stages.alignment.writing.novelty import Novelty, words_of
from stages.annotators.truth import Truth, score

WINDOW = 50  # words: the type-token ratio of a window doesn't hang on how much was written (Covington & McFall 2010)


def drift(tasks: Sequence[Task], seeds: Sequence[Task], truth: Truth) -> dict[str, float | None]:
    """Of the tasks, None where it can't be known:

    instruction_words, output_words: mean lengths.
    type_token_ratio: different words of a window, mean over all windows of the instructions.
    distinct_2: different pairs of neighbouring words as a share of all (Li et al. 2016); falls with their number, too.
    first_word_entropy: of the instructions' first words, in bits: an order's verb, a question's word.
    seed_overlap: mean of the highest ROUGE-L to a seed; of a seed, to another one.
    own_overlap: mean of the highest ROUGE-L to another of the tasks; rises with their number, too.
    known, right: tasks that name one entity of which facts are known; the share whose answer states a true value and no
    untrue one.
    """
    listed = [words_of(task.instruction) for task in tasks]
    pairs = [pair for words in listed for pair in pairwise(words)]
    graded = [found for task in tasks if (found := _right(task, truth)) is not None]
    return {
        "tasks": len(tasks),
        "instruction_words": _mean([len(words) for words in listed]),
        "output_words": _mean([len(task.output.split()) for task in tasks]),
        "type_token_ratio": _type_token_ratio([word for words in listed for word in words]),
        "distinct_2": len(set(pairs)) / len(pairs) if pairs else None,
        "first_word_entropy": _entropy([words[0] for words in listed if words]),
        "seed_overlap": _closest(tasks, seeds),
        "own_overlap": _closest(tasks, tasks),
        "known": len(graded),
        "right": _mean(graded),
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _type_token_ratio(words: Sequence[str]) -> float | None:
    if len(words) < WINDOW:
        return len(set(words)) / len(words) if words else None
    counts = Counter(words[:WINDOW])
    total = len(counts)
    for leaving, coming in zip(words, words[WINDOW:], strict=False):
        counts[coming] += 1
        counts[leaving] -= 1
        if not counts[leaving]:
            del counts[leaving]
        total += len(counts)
    return total / (len(words) - WINDOW + 1) / WINDOW


def _entropy(words: Sequence[str]) -> float | None:
    counts = Counter(words).values()
    return sum(n / len(words) * math.log2(len(words) / n) for n in counts) if words else None


def _closest(tasks: Sequence[Task], others: Sequence[Task]) -> float | None:
    """Mean over the tasks of the highest ROUGE-L to one of the others that isn't the task itself."""
    kept, places = Novelty(task.instruction for task in others), {id(task): place for place, task in enumerate(others)}
    found = [
        kept.closest(task.instruction, leaving_out=places.get(id(task)))
        for task in tasks
        if len(others) > 1 or id(task) not in places
    ]
    return _mean(found)


def _right(task: Task, truth: Truth) -> float | None:
    """Whether the answer is right; None where the task names no entity of which facts are known, or several."""
    named = [name for name in truth.facts if name in task.prompt]
    named = [name for name in named if not any(name != other and name in other for other in named)]
    if len(named) != 1:
        return None
    found = score(truth, named[0], truth.facts[named[0]], task.output)
    return float(found.correct > 0 and found.wrong == 0)
