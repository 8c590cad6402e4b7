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
LOOP(ours_update, { sum += !ads_array_set(to->arena, array(to), run->length, number, &value); })
LOOP(peer_update, { sum += !bench_element(BENCH_UPDATE, to->fd, &number, &value, 0); })

/* --- many elements in one system call --- */

#define BATCH 1024

/* Batches of lookups go from one element to the next, whatever the order says. */
int batch_lookup(struct bench_target *to, struct bench_run *run)
{
	static __thread __u32 keys[BATCH];
	static __thread struct value values[BATCH];
	__u64 done = 0, sum = 0, start = bench_now();
	__u32 at = run->position, i;

	while (done < run->operations) {
		__u64 left = run->operations - done;
		__u32 count = run->length - at;
		__u32 last = at - 1, next;
		int rc;

		if (count > left)
			count = (__u32)left;
		if (count > BATCH)
			count = BATCH;
		rc = bench_batch(BENCH_LOOKUP_BATCH, to->fd, at ? &last : 0, &next, keys, values, &count);
		if (rc && rc != -ENOENT)
			return rc;
		for (i = 0; i < count; i++)
			sum += values[i].word[0];
		done += count;
		at = bench_wrap(run, at + count);
	}
	run->nanoseconds = bench_now() - start;
	run->position = at;
	run->sum = sum;
	return 0;
}

int batch_update(struct bench_target *to, struct bench_run *run)
{
	static __thread __u32 keys[BATCH];
	static __thread struct value values[BATCH];
	__u64 done = 0, start = bench_now();
	__u32 at = run->position, i;

	while (done < run->operations) {
		__u32 count = run->operations - done < BATCH ? (__u32)(run->operations - done) : BATCH;
		int rc;

		for (i = 0; i < count; i++) {
			keys[i] = run->order[at];
			values[i].word[0] = keys[i];
			at = bench_wrap(run, at + 1);
		}
		rc = bench_batch(BENCH_UPDATE_BATCH, to->fd, 0, 0, keys, values, &count);
		if (rc)
			return rc;
		done += count;
	}
	run->nanoseconds = bench_now() - start;
	run->position = at;
	run->sum = done;
	return 0;
}

/* --- mapped --- */

LOOP(mapped_lookup, {
	if (number < run->length)
		value = ((const volatile struct value *)to->mapped)[number];
	sum += value.word[0];
})
LOOP(mapped_update, {
	if (number < run->length) {
		((volatile struct value *)to->mapped)[number] = value;
		sum++;
	}
})

/* --- beside a program --- */

void accompany(struct bench_neighbour *neighbour, struct bench_target *to, struct bench_run *run, __u64 interval)
{
	static const bench_function functions[] = {ours_lookup, peer_lookup, ours_update, peer_update};

	bench_accompany(neighbour, functions, to, run, interval);
}
