"""The modules that import-linter can't take as roots keep their place, and what is loaded when.

`cli` is on top, `settings` at the bottom.
"""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("admin_api", "blocklists", "commands", "control", "policy", "querylog", "resolver", "storage")


LOADED_WHEN_NEEDED = {"alembic", "psycopg", "aiohttp", "h2", "h11", "resolver.engine"}
"""What takes most commands longer to load than all that they do."""


def imports(path: Path) -> set[str]:
    """Return the top-level modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_nothing_imports_the_command_line() -> None:
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > len(PACKAGES)
    assert [path for path in modules if "cli" in imports(path)] == []


def test_settings_import_nothing_of_the_project() -> None:
    assert imports(ROOT / "settings.py").isdisjoint({*PACKAGES, "cli"})
    assert imports(ROOT / "setting_values.py").isdisjoint({*PACKAGES, "cli", "settings"})


def test_a_command_loads_what_it_needs() -> None:
    code = "import sys, cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded & LOADED_WHEN_NEEDED == set()
    assert "sqlalchemy" in loaded
