import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("TRAINYARD_TRACK", "off")
settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # of a job in the background, and so of all that tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of reference data (real runs, annotations, pages); tests that need it skip where it is absent."""
    folder = Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip("reference data not found: set TRAINYARD_REFERENCE to its folder")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes minutes first, so that it isn't what all processes but one wait for."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")


@pytest.fixture(scope="module")
def ray_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray at a time: a process that starts one joins whatever runs on the machine."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with (shared / "ray.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def ray_cluster(ray_alone: None) -> Iterator[None]:
    """A Ray cluster of two nodes, one CPU each, on this machine."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield
    ray.shutdown()
    cluster.shutdown()
