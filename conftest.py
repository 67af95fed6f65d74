"""What all tests share, wherever they lie."""

pytest_plugins = ("tests.support.databases", "tests.support.mlflow_process", "tests.support.object_stores")
