/*
 * The nbd frontend: images as /dev/nbdN, through the kernel's NBD driver.
 *
 * Each hardware queue is a socket pair, whose one end the kernel has; the other is an NBD session
 * that begins with transmission, on the queue that serves it. Other processes may use NBD devices
 * as well: a number that is free at create can be gone at start, which then fails with -EBUSY.
 *
 * When config.number names a device that is connected under config.name by a process that is no
 * more, start gives it new sockets: the kernel sends again what was in flight, and nobody above
 * sees an error.
 */
#pragma once

#include "core/frontend.h"

extern const struct frontend_ops nbd_frontend;
