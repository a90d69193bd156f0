/* What is done around the snapshots of an RBD image, whoever takes them; for image/rbd alone. */
#pragma once

#include <rbd/librbd.h>

#include "core/image.h"

struct rbd_quiesce;

/* 0 or a negative errno; takes @todo over on success only. Any thread that may block. */
int rbd_quiesce_start(rbd_image_t image, const struct image_quiesce *todo,
		      struct rbd_quiesce **ret) warn_unused;

/* As image_ops.set_snapshots. */
bool rbd_quiesce_set(struct rbd_quiesce *quiesce, enum image_snapshots to);

/*
 * Before the image is closed: waits for what is being done, and undoes what a snapshot still waits
 * for. NULL is allowed.
 */
void rbd_quiesce_stop(struct rbd_quiesce *quiesce);
