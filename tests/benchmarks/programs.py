"""The benchmark's C programs, compiled when they are needed."""

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
COMPILER = "cc"


def can_compile() -> bool:
    """Tell whether there is a C compiler."""
    return shutil.which(COMPILER) is not None


def compiled(directory: Path, name: str) -> Path:
    """Compile ``NAME.c`` into a directory, unless that has been done, and return the program."""
    program = directory / name
    if not program.exists():
        subprocess.run([COMPILER, "-O2", "-Wall", "-o", str(program), str(HERE / f"{name}.c")], check=True)
    return program
