"""hold-lock.py - takes an image's exclusive lock, makes a file that says so, holds it while that file is there. Of an
image without the feature it is the open image that is held.

  hold-lock.py USER MONITORS KEYRING POOL FILE IMAGE [TEXT]

TEXT is written to its beginning first.
"""
import os
import sys
import time

import rados
import rbd

user, monitors, keyring, pool, path, image_name = sys.argv[1:7]
cluster = rados.Rados(rados_id=user, conf={"mon_host": monitors, "keyring": keyring})
cluster.connect(timeout=30)
with cluster.open_ioctx(pool) as ioctx, rbd.Image(ioctx, image_name) as image:
    if image.features() & rbd.RBD_FEATURE_EXCLUSIVE_LOCK:
        image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
    if sys.argv[7:]:
        image.write(sys.argv[7].encode(), 0)
        image.flush()
    open(path, "w").close()
    for _ in range(1200):
        if not os.path.exists(path):
            break
        time.sleep(0.1)
cluster.shutdown()
