/* SPDX-License-Identifier: MIT */
/*
 * array.c - an array in the arena from user space, and a kernel array map of the same elements: through
 * bpf(), and mapped into the process. Compiled for each size of elements.
 */
#include "loops.h"

#ifndef VALUE_SIZE
#define VALUE_SIZE 8
#endif

struct value {
	__u64 word[VALUE_SIZE / 8];
};

#define LOOP(name, body) BENCH_LOOP(name, struct value value = {{0}}; value.word[0] = number; body)

static inline struct ads_ref array(const struct bench_target *to)
{
	struct ads_ref ref = {to->structure, 0, VALUE_SIZE, 0};

	return ref;
}

LOOP(empty, {
	__asm__ volatile("" ::"r"(&value) : "memory");
	sum += value.word[0];
})
LOOP(ours_lookup, {
	if (!ads_array_get(to->arena, array(to), run->length, number, &value))
		sum += value.word[0];
})
LOOP(peer_lookup, {
	if (!bench_element(BENCH_LOOKUP, to->fd, &number, &value, 0))
		sum += value.word[0];
})
LOOP(mapped_lookup, {
	if (number < run->length)
		value = ((const volatile struct value *)to->mapped)[number];
	sum += value.word[0];
})
LOOP(ours_update, { sum += !ads_array_set(to->arena, array(to), run->length, number, &value); })
LOOP(peer_update, { sum += !bench_element(BENCH_UPDATE, to->fd, &number, &value, 0); })
LOOP(mapped_update, {
	if (number < run->length) {
		((volatile struct value *)to->mapped)[number] = value;
		sum++;
	}
})
