"""What all tests share, wherever they lie."""

pytest_plugins = ("tests.support.databases",)
