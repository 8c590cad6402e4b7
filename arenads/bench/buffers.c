/* SPDX-License-Identifier: MIT */
/*
 * buffers.c - libbpf's buffers of messages for Python, by as few calls into C as there can be; see
 * cells/python_messages.py. libbpf is not linked: it is there when this is loaded.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef int (*ring_buffer_sample_fn)(void *context, char *data, size_t size);

/* As in bpf/libbpf.h, with plain pointers for what nobody looks into. */
void *ring_buffer__new(int map_fd, ring_buffer_sample_fn function, void *context, const void *options);
void ring_buffer__free(void *ring);
int ring_buffer__consume(void *ring);
void *user_ring_buffer__new(int map_fd, const void *options);
void user_ring_buffer__free(void *ring);
void *user_ring_buffer__reserve(void *ring, uint32_t size);
void user_ring_buffer__submit(void *ring, void *sample);

struct copies {
	char *memory;
	size_t used, room;
};

/* A callback: puts each message behind the one before. */
static int copy_sample(void *context, char *data, size_t size)
{
	struct copies *to = context;

	if (to->room - to->used < size)
		return -ENOSPC;
	memcpy(to->memory + to->used, data, size);
	to->used += size;
	return 0;
}

/* Sends messages of one size that lie one behind the other; how many there was room for. */
static uint32_t send_each(void *ring, const char *messages, uint32_t size, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		void *place = user_ring_buffer__reserve(ring, size);

		if (!place)
			break;
		memcpy(place, messages + (size_t)i * size, size);
		user_ring_buffer__submit(ring, place);
	}
	return i;
}
