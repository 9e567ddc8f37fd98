"""The official estimator, timed: run by `bench/judging/length.py` under a Python that has alpaca_eval 0.6.6.

Standard input: {"gamed": columns, "difficulty": columns, "models": {model: columns}}. Its two downloads are replaced by
those columns. Standard output: {model: [seconds, length-controlled rate]}.
"""

import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    given = json.load(sys.stdin)
    import pandas as pd
    from alpaca_eval.metrics import glm_winrate

    with tempfile.TemporaryDirectory() as folder:
        gamed = pd.DataFrame(given["gamed"])
        gamed = gamed.rename(columns={"instruction_index": "index", "preference_surrogate_0to1": "preference"})
        gamed["not_gamed_baseline"] = False
        gamed.to_csv(Path(folder) / "df_gamed.csv", index=False)
        glm_winrate.hf_hub_download = lambda filename, **_: str(Path(folder) / filename)
        found = {}
        for name, columns in given["models"].items():
            annotations = pd.DataFrame(
                {
                    "preference": columns["preference"],
                    "output_1": ["x" * int(length) for length in columns["len_baseline"]],
                    "output_2": ["x" * int(length) for length in columns["len_output"]],
                    "generator_1": "baseline",
                    "generator_2": name,
                    "annotator": "judge",
                }
            )
            start = time.perf_counter()
            metrics = glm_winrate.get_length_controlled_winrate(annotations, save_weights_dir=None)
            found[name] = [time.perf_counter() - start, metrics["length_controlled_winrate"]]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
