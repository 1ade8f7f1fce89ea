"""The build steps that setuptools cannot declare: compile the CNI front and the UDP proxy.

Everything else is in pyproject.toml. The program goes into the package, where ``netloom install``
finds it, and as the script ``netloom-cni`` beside ``netloom``. Without a C compiler the build goes
on and says so; the Python front then takes both places. An editable install gets the script only:
``make`` calls ``python -m netloom.drivers.cni.build`` for the other.
"""

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# setuptools brings distutils along; it must be imported after setuptools.
from distutils.command.build_scripts import build_scripts  # isort: skip

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # before setuptools 70.1
    from wheel.bdist_wheel import bdist_wheel

DRIVER = Path("src/netloom/drivers/cni")
BUILD = runpy.run_path(str(DRIVER / "build.py"))
PROXY = runpy.run_path("src/netloom/kernel/udp/build.py")


class BuildPackage(build_py):
    """Build the Python files, then the programs beside them."""

    def run(self) -> None:
        """Compile into the build folder; the source tree stays as it is."""
        super().run()
        if self.editable_mode:
            return
        for place, compile_to in (
            ("drivers/cni/netloom-cni", BUILD["compile_front"]),
            ("kernel/udp/netloom-udp", PROXY["compile_proxy"]),
        ):
            target = Path(self.build_lib, "netloom", place).resolve()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # perhaps copied from the source tree
            if reason := compile_to(target):
                print(f"{target.name} stays a Python program: {reason}")


class BuildScript(build_scripts):
    """Build the script ``netloom-cni``."""

    def run(self) -> None:
        """Compile it, or take the Python front with a first line that installers rewrite."""
        target = Path(self.build_dir, "netloom-cni").resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        if BUILD["compile_front"](target):
            source = (DRIVER / "front.py").read_bytes()
            target.write_bytes(b"#!python\n" + source.partition(b"\n")[2])
            target.chmod(0o755)


class WheelForPlatform(bdist_wheel):
    """A program without Python inside fits one platform and every Python."""

    def finalize_options(self) -> None:
        """Without a compiler there is no program, and the wheel fits every platform."""
        super().finalize_options()
        self.root_is_pure = not (shutil.which("cc") or shutil.which("gcc"))

    def get_tag(self) -> tuple[str, str, str]:
        """Name the platform alone."""
        return ("py3", "none", super().get_tag()[2])


setup(
    cmdclass={
        "build_py": BuildPackage,
        "build_scripts": BuildScript,
        "bdist_wheel": WheelForPlatform,
    },
    scripts=[str(DRIVER / "front.py")],  # what BuildScript makes of it is called netloom-cni
)
