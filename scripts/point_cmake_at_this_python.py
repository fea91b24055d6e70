"""Replace the build machine's include folders in the ROS wheels' CMake files by this machine's."""

import re
import sysconfig
from pathlib import Path

import numpy

PYTHON_INCLUDE = re.compile(r"/opt/python/cp3\d+-cp3\d+/include/python3\.\d+")
NUMPY_INCLUDE = re.compile(
    r"/opt/python/cp3\d+-cp3\d+/lib/python3\.\d+/site-packages/numpy/_core/include"
)

for file in Path(sysconfig.get_paths()["data"]).glob("share/*/cmake/*.cmake"):
    text = file.read_text()
    pointed = NUMPY_INCLUDE.sub(numpy.get_include(), text)
    pointed = PYTHON_INCLUDE.sub(sysconfig.get_paths()["include"], pointed)
    if pointed != text:
        file.write_text(pointed)
