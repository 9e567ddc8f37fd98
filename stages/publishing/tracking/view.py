"""How MLflow shows the runs: columns and search of the saved views, kept where its own “share” button keeps them."""

import json
from collections.abc import Iterable

KIND = {"mlflow.experimentKind": "custom_model_development", "mlflow.experiment.primaryMetric.name": "dpo/lc"}


def saved_view(search: str, metrics: Iterable[str], params: Iterable[str], tags: Iterable[str] = ()) -> str:
    """The value of the experiment's tag `mlflow.sharedViewState.<key>`: opened by `runs?viewStateShareKey=<key>`."""
    columns = [f"metrics.`{name}`" for name in metrics]
    columns += [f"params.`{name}`" for name in params] + [f"tags.`{name}`" for name in tags]
    state = {
        "searchFilter": search,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
    }
    return json.dumps(state)
