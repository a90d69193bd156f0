/*
 * Memory for the data of requests. A page costs where it is touched, and no more than that: a huge
 * one would make a first 4 KiB I/O cost 2 MiB, which no giving back of its parts returns. Core
 * dumps have no use for users' data, nor have child processes.
 */
#pragma once

#include <stddef.h>

/* @size in bytes; to be given back with munmap(). NULL with errno. Any thread. */
void *request_memory_map(size_t size);
