"""Column schemas of every table that one phase hands to another.

Checked by `base.files` on write and on read: same names, same order, same types.
"""

import pyarrow as pa

PAGE = pa.schema(
    [
        ("id", pa.string()),  # first 16 hex of sha256(source, url, occurrence)
        ("source", pa.string()),  # key of the source in corpus.sources
        ("url", pa.string()),
        ("licence", pa.string()),
        ("opt_out", pa.string()),  # signals against training use ("x-robots-tag:noai"), spaces between; "" if none
        ("html", pa.binary()),
    ]
)

DOCUMENT = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("url", pa.string()),
        ("licence", pa.string()),
        ("opt_out", pa.string()),  # as in PAGE, with the signals of the page's own HTML
        ("language", pa.string()),  # "" until screen
        ("text", pa.string()),
        ("text_hash", pa.string()),  # sha256 hex of the text, rewritten whenever the text is
        ("links", pa.list_(pa.string())),  # absolute URLs the page links to, in page order
        ("quality", pa.float32()),  # NaN until quality
        ("domain", pa.string()),  # "" until domains
    ]
)

DROP = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("url", pa.string()),
        ("rule", pa.string()),  # the rule that dropped it, e.g. gopher_quality
        ("reason", pa.string()),  # that rule's reason, e.g. gopher_short_doc
        ("duplicate_of", pa.string()),  # id of the kept twin, "" where the rule is no dedup
        ("sample", pa.string()),  # the first 300 characters, for the report
    ]
)

PLANTED = pa.schema(
    [
        ("url", pa.string()),
        # exact_duplicate, near_duplicate, edition, boilerplate, spam, pii_<kind>, opt_out, licence, quiz_leak
        ("kind", pa.string()),
        ("of_url", pa.string()),  # the page it copies, "" otherwise
        ("payload", pa.string()),  # the planted string, a question's id, what should find it; "" otherwise
    ]
)

MIXED = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("domain", pa.string()),
        ("text", pa.string()),
        ("epochs", pa.float32()),
    ]
)

# Where each piece of a document stands in the rows beside it: `length` tokens of row `row` from `offset` on. They are
# tokens `start` … of the document's copy `copy`, which is row `document` of the packed table.
PLACEMENT = pa.schema(
    [
        ("row", pa.int64()),
        ("offset", pa.int32()),
        ("length", pa.int32()),
        ("document", pa.int64()),
        ("copy", pa.int32()),
        ("start", pa.int64()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("domain", pa.string()),
    ]
)

QUESTION = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),  # sft, preference, validation, test
        ("entity", pa.string()),
        ("kind", pa.string()),  # single (one attribute) or about (several)
        ("attributes", pa.list_(pa.string())),  # what is asked
        ("prompt", pa.string()),
        ("reference", pa.string()),  # a correct answer, without filler
        ("filler", pa.string()),  # a sentence that adds length and no fact, "" for most
    ]
)

TASK = pa.schema(
    [
        ("id", pa.string()),
        ("set", pa.string()),  # key of the task in evaluation.tasks
        ("subject", pa.string()),
        ("split", pa.string()),  # development (few-shot examples), validation, test
        ("question", pa.string()),  # bare, for overlap with a corpus
        ("prompt", pa.string()),  # as the task's own template words it; "" where it has none
        ("choices", pa.list_(pa.string())),  # none where the answer is generated
        ("answer", pa.int32()),  # index of the right choice; -1 where nothing is chosen
        ("targets", pa.list_(pa.string())),  # accepted answers as text, where the answer is generated
        ("contexts", pa.list_(pa.string())),  # one a choice, where contexts differ and the continuation doesn't
        ("statements", pa.list_(pa.string())),  # each choice said as a sentence, for the chat protocol; or none
        ("cluster", pa.string()),  # items of one cluster (a passage) are not independent; "" = of its own
        ("description", pa.string()),  # before the examples, where it differs by item
        ("labels", pa.list_(pa.string())),  # continuations of the task's own template, where not the choices' text
        ("counted", pa.string()),  # of a rolling text: what words and bytes are counted in, if not `question`
    ]
)

# The conversation that the prompt is the text of, where it is more than one message of a user; else empty.
MESSAGES = ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))

INSTRUCTION = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("origin", pa.string()),  # key of its source in alignment.instructions.sources, or self_instruct
        ("entity", pa.string()),  # asked about; "" where no truth is known
        ("attributes", pa.list_(pa.string())),
        ("prompt", pa.string()),
        ("response", pa.string()),  # with filler where the style knob put some
        MESSAGES,
    ]
)

PREFERENCE = pa.schema(
    [
        ("id", pa.string()),  # instruction id
        ("prompt", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("preference", pa.float32()),  # 1..2 as annotated (2: the second sample won)
        ("chosen_score", pa.int32()),  # exact, null where no truth is known: for the report only
        ("rejected_score", pa.int32()),
        ("annotator", pa.string()),
        MESSAGES,
    ]
)

OUTPUT = pa.schema(
    [
        ("id", pa.string()),  # instruction id
        ("split", pa.string()),
        ("prompt", pa.string()),
        ("output", pa.string()),
        ("tokens", pa.int32()),
    ]
)

ANNOTATION = pa.schema(
    [
        ("instruction_index", pa.int32()),  # position of the instruction in its split, the same for every model
        ("id", pa.string()),
        ("split", pa.string()),
        ("model", pa.string()),
        ("baseline", pa.string()),
        ("annotator", pa.string()),
        ("preference", pa.float64()),  # 1 (baseline wins) .. 2 (model wins), NaN if unparsable
        # The same when the baseline's answer, or the model's, was shown first; NaN for an order that wasn't asked for.
        ("baseline_first", pa.float64()),
        ("output_first", pa.float64()),
        ("weighted", pa.bool_()),  # from log-probabilities; else read off the judge's text
        ("usd", pa.float64()),  # price of the judge's replies, by its own token counts
        ("seconds", pa.float64()),  # that they took when they were bought; NaN for a simulated judge
        ("len_output", pa.int32()),  # characters
        ("len_baseline", pa.int32()),
        ("error", pa.string()),  # "" or why there is no preference
    ]
)

EXACT = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("model", pa.string()),
        ("asked", pa.int32()),
        ("correct", pa.int32()),
        ("wrong", pa.int32()),
        ("score", pa.int32()),
        ("right", pa.bool_()),
    ]
)
