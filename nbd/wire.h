/* Reading and writing the wire's big-endian numbers at any alignment. */
#pragma once

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t get_be16(const uint8_t *from)
{
	uint16_t value;

	memcpy(&value, from, sizeof(value));
	return be16toh(value);
}

static inline uint32_t get_be32(const uint8_t *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return be32toh(value);
}

static inline uint64_t get_be64(const uint8_t *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return be64toh(value);
}

/* Each returns the place behind what it wrote. */
static inline uint8_t *put_be16(uint8_t *to, uint16_t value)
{
	value = htobe16(value);
	return (uint8_t *)memcpy(to, &value, sizeof(value)) + sizeof(value);
}

static inline uint8_t *put_be32(uint8_t *to, uint32_t value)
{
	value = htobe32(value);
	return (uint8_t *)memcpy(to, &value, sizeof(value)) + sizeof(value);
}

static inline uint8_t *put_be64(uint8_t *to, uint64_t value)
{
	value = htobe64(value);
	return (uint8_t *)memcpy(to, &value, sizeof(value)) + sizeof(value);
}

static inline uint8_t *put_bytes(uint8_t *to, const void *from, size_t length)
{
	if (length > 0)
		memcpy(to, from, length);
	return to + length;
}
