from tests.annotators.served import own_cache, start  # noqa: F401
