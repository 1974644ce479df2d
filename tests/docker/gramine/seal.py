"""Prepares an image for `loader.py`, as its last step: `seal.py LIST`, the list being the measured files' absolute paths.

Every other file of the image loses its permission to be read, which root without capabilities needs as everybody does.
The directories that the manifest mounts in memory become links to where the loader makes them.
"""

import os
import shutil
import stat
import sys

MEMORY = "/dev/gramine"
MOUNTS = ["/key", "/mse-app", "/root", "/tmp"]

with open(sys.argv[1]) as file:
    listed = [path for path in file.read().splitlines() if os.path.exists(path)]
device = os.stat("/").st_dev
known = {os.stat(path).st_ino for path in listed}
own = "/gramine/direct/"
# Here lies what a build may use and no image keeps.
NOT_KEPT = ["/run"]
for directory, inner, files in os.walk("/"):
    paths = {name: os.path.join(directory, name) for name in inner}
    inner[:] = [name for name, path in paths.items() if os.lstat(path).st_dev == device and path not in NOT_KEPT]
    for name in files:
        path = os.path.join(directory, name)
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode) and status.st_dev == device and status.st_ino not in known:
            if not path.startswith(own):
                os.chmod(path, stat.S_IMODE(status.st_mode) & ~0o444)
for path in MOUNTS:
    shutil.rmtree(path, ignore_errors=True)
    os.symlink(MEMORY + path, path)
