"""All protocols by name, and their prompt variants (`original-q_a`)."""

from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from stages.base.errors import ParamError
from stages.evaluation.protocols.chat import CHAT
from stages.evaluation.protocols.cloze import CLOZE
from stages.evaluation.protocols.generate import CHAT_GENERATE, GENERATE
from stages.evaluation.protocols.harness import HARNESS
from stages.evaluation.protocols.helm import HELM
from stages.evaluation.protocols.original import ORIGINAL
from stages.evaluation.protocols.protocol import EvaluationProtocol
from stages.evaluation.protocols.task import TASK
from stages.evaluation.protocols.variants import variants

PROTOCOLS: dict[str, EvaluationProtocol] = {
    protocol.name: protocol for protocol in (ORIGINAL, HELM, HARNESS, CLOZE, CHAT, CHAT_GENERATE, GENERATE, TASK)
}


def find_protocol(name: str) -> EvaluationProtocol:
    """One of `PROTOCOLS`, or another wording of one, `<protocol>-<variant>`. ParamError with the nearest for others."""
    known: dict[str, EvaluationProtocol] = dict(PROTOCOLS)
    if (base := name.split("-")[0]) in PROTOCOLS and base != name:
        known = {f"{base}-{variant}": one for variant, one in variants(PROTOCOLS[base]).items() if variant}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"
        raise ParamError(f"unknown protocol `{name}`; {hint}")
    found: Any = known[name]
    return found if name in PROTOCOLS else replace(found, name=name)
